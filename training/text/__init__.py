"""What can be said of a string alone: its script, its language, its numbers.

Must not know rows or models.
"""
