"""How groups of rows are shared out among splits: the strata of each group, and the split that it goes to.

Must not know files, or what links rows.
"""
