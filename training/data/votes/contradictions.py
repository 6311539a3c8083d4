"""The option of pairs with votes for both labels. Imports nothing, so that commands can name it at no cost."""

from enum import StrEnum


class Contradictions(StrEnum):
    """What to do with pairs that have votes for both labels.

    MERGE keeps each as one row, MAJORITY drops ties, DROP drops all of them.
    """

    MERGE = "merge"
    MAJORITY = "majority"
    DROP = "drop"
