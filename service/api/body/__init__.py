"""Request bodies: bounded reading and parsing off the event loop.

Must not know what the fields mean.
"""
