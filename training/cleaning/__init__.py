"""Cleaning that keeps every script: texts, titles, votes, language tags.

Must not know files, models or the other strategies.
"""
