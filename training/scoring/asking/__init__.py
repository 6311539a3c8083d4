"""A file scored by what a language model behind an endpoint answers.

Must not know bundles.
"""
