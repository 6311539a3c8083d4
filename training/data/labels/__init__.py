"""What a row's label is made of: 0 and 1, grades, clicks, shares and weights of votes.

Must not know files, splits or stages.
"""
