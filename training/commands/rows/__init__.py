"""The commands from rows to rows.

Must not hold logic that a notebook would need.
"""
