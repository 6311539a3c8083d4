"""Base models, the cross-encoder over them, the probe, and the trimmed vocabulary.

Must not know optimisers, recipes or files of rows.
"""
