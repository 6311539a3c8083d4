"""File formats of rows, read and written in parts: CSV, TSV, JSON lines, Parquet.

Must not know what the fields mean.
"""
