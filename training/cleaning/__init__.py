"""Cleaning that keeps every script: texts, titles, repeated and contradictory rows, language tags."""

from training.cleaning.duplicates import Contradictions
from training.cleaning.options import CleaningOptions, Tags
from training.cleaning.stage import CleaningReport, clean

__all__ = ["CleaningOptions", "CleaningReport", "Contradictions", "Tags", "clean"]
