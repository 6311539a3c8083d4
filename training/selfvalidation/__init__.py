"""Self-validation filtering: models judge rows that they never saw; doubtful rows are dropped, mended or shown.

Must not know the other strategies, or the pipeline.
"""
