"""Cleaning that keeps every script: texts, titles, votes, language tags."""

from training.cleaning.options import CleaningOptions, Tags
from training.cleaning.stage import CleaningReport, clean
from training.data.votes import Contradictions

__all__ = ["CleaningOptions", "CleaningReport", "Contradictions", "Tags", "clean"]
