"""The routes that show the served models: the list of those that answer, and the cards of a task.

Must not know how models are changed or how pairs are scored.
"""
