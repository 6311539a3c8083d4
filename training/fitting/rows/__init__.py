"""What a run makes of its rows: token ids, the category prior, facts on queries and languages, batches.

Must not know models or optimisers.
"""
