"""Requests to an OpenAI-compatible endpoint, with retries and within a budget.

Must not know what is asked: translations, answers on pairs.
"""
