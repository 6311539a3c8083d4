"""Votes: rows of the same query, candidate and language become one row that keeps the share and number of its votes.

Must not know stages or files.
"""
