"""Semantic negative sampling: rows of label 0, made of positive rows and other candidates of the same file.

Must not know how models are trained, or the other strategies.
"""
