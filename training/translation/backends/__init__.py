"""The translators: which one a name means, and what each needs.

Must not know rows of labelled pairs, quotas or gates.
"""
