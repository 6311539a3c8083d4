"""Who may call, and how often: API keys, their scopes and their rates.

Must not know models.
"""
