"""The command line: each command parses its options, calls one function and reports.

Must not hold logic that a notebook would need.
"""
