"""A model as a function that scores rows: what vets negatives, and what teaches rows in other languages."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from relevance.errors import ConfigError
from relevance.tasks import LabeledPair, Task

# Returns the logit of each row's relevance: [N].
RowScorer = Callable[[Sequence[LabeledPair]], NDArray[np.float64]]


def model_scorer(folder: Path, task: Task, role: str) -> RowScorer:
    """Return a scorer by a checkpoint or a bundle; `role` names it in messages.

    Raises ConfigError for a model of another task, and CheckpointError or BundleError for a folder that is neither.
    """
    # Heavy, and not needed where commands are declared.
    from training.fitting.evaluation.report import card_of, score_logits

    card = card_of(folder)
    if card.task is not task:
        raise ConfigError(f"{role} {folder}: is a model for {card.task}; expected one for {task}")

    def score(rows: Sequence[LabeledPair]) -> NDArray[np.float64]:
        return np.asarray(score_logits(folder, rows)[1], dtype=np.float64)

    return score
