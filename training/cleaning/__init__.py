"""Cleaning that keeps every script: texts, titles, votes, language tags.

Must not know files, models or the other strategies.
"""

from training.cleaning.options import CleaningOptions, Tags
from training.cleaning.stage import CleaningReport, clean
from training.data.votes.merging import Contradictions

__all__ = ["CleaningOptions", "CleaningReport", "Contradictions", "Tags", "clean"]
