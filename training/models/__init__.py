"""The cross-encoder over a base model, its adapters, and the probe.

Must not know optimisers, recipes or files of rows.
"""
