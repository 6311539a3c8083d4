"""Rows in and out: fields, labels, weights, groups and splits.

Must not know models or strategies.
"""
