"""The commands that make, judge or use a model.

Must not hold logic that a notebook would need.
"""
