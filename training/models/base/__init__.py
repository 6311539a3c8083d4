"""Base models: found, loaded, and cut in layers and vocabulary before training.

Must not know heads or cross-encoders.
"""
