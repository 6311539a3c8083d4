"""Rows outside of memory: Arrow record batches in temporary files, in order or in buckets.

Must not know what a stage does with rows.
"""
