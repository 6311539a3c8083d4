"""File formats of rows: read and write CSV, TSV, JSON lines and Parquet, one or many files.

Must not know what the fields mean.
"""
