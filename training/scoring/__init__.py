"""Batch scoring of a file of any length with a bundle: constant memory, resumable, every input field kept."""
