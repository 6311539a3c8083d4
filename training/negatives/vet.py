"""A filter against false negatives: a model that has seen other data judges each negative before it becomes a row."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from relevance.errors import ConfigError
from relevance.tasks import LabeledPair, Task

# Returns the probability that each row is relevant after all: [N], in [0, 1].
RowScorer = Callable[[Sequence[LabeledPair]], NDArray[np.float64]]


def checkpoint_scorer(checkpoint: Path, task: Task) -> RowScorer:
    """Return a scorer by a checkpoint of `relevance train`. Raises ConfigError for a checkpoint of another task."""
    from relevance.card import ModelCard

    card = ModelCard.load(checkpoint)
    if card.task is not task:
        raise ConfigError(f"vet {checkpoint}: is a checkpoint for {card.task}; expected one for {task}")

    def score(rows: Sequence[LabeledPair]) -> NDArray[np.float64]:
        from training.fitting.evaluation import score_rows

        return np.asarray(score_rows(checkpoint, rows)[1], dtype=np.float64)

    return score
