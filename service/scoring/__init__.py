"""Text pairs to scores, for one model: admission, tokenisation, caches, thresholds.

Must not know HTTP, nor that other models exist.
"""
