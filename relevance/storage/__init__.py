"""Outputs that appear whole or not at all, and that one process at a time writes.

Must not know what the files hold.
"""
