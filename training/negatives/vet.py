"""A filter against false negatives: a model that has seen other data judges each negative before it becomes a row."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from relevance.errors import ConfigError
from relevance.tasks import LabeledPair, Task


class Vet(Protocol):
    """Says how relevant candidates are that are about to become negatives."""

    def scores(self, rows: Sequence[LabeledPair]) -> NDArray[np.float64]:
        """Return the probability that each row is relevant after all: [N], in [0, 1]."""


class CheckpointVet:
    """Scores by a checkpoint of `relevance train`. Raises ConfigError where it is of another task."""

    def __init__(self, checkpoint: Path, task: Task) -> None:
        from relevance.card import ModelCard

        card = ModelCard.load(checkpoint)
        if card.task is not task:
            raise ConfigError(f"vet {checkpoint}: is a checkpoint for {card.task}; expected one for {task}")
        self._checkpoint = checkpoint

    def scores(self, rows: Sequence[LabeledPair]) -> NDArray[np.float64]:
        """Return scores [N]."""
        from training.fitting.evaluation import score_rows

        return np.asarray(score_rows(self._checkpoint, rows)[1], dtype=np.float64)
