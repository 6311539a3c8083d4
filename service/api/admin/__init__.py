"""The admin interface: an app of its own, on a port of its own, that changes the models of a running service.

Must not know how pairs are scored.
"""
