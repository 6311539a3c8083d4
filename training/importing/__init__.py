"""Turns a re-ranker that was trained elsewhere into a checkpoint.

Must not change weights, and must not know rows or recipes.
"""
