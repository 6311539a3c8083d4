"""Shards scored by actors of Ray, on this machine or on a cluster.

Must not know how rows are read or scores are written.
"""
