"""Batch scoring of a file of any length with a bundle: constant memory, resumable, every input field kept.

Must not know training, or how a bundle scores: the kernel does that.
"""
