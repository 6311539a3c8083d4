"""Cross-lingual alignment: an encoder gives a text and its translation nearly the same vector, before fine-tuning.

Must not know labels, tasks or heads.
"""
