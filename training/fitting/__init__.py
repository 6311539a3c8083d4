"""Fine-tuning: from a recipe and rows to a checkpoint folder, and the plan of a run.

Must not know the data strategies.
"""
