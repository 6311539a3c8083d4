"""Shared kernel: the words that training, export and service have in common. No torch, no web."""
