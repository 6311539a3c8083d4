"""The text of a pair: its characters, what a model reads of it, and its token ids.

Must not know models, scores and files.
"""
