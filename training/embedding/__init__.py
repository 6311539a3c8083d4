"""Vectors of texts, kept on disk, and nearest neighbours.

Must not know which model makes the vectors, nor what they are for.
"""
