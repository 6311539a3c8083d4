"""Metrics, logs, traces and drift.

Must not know who reports to it: it imports none of the other rooms.
"""
