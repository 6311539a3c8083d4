"""A filter against false negatives: a model judges each negative before it becomes a row.

A negative has to score below the positive of its query, by a margin (Moreira et al. 2024, NV-Retriever, TopK-MarginPos,
arXiv 2407.15831). Here the scores are logits, not cosines. A model that saw few negatives says yes to nearly
everything: this adds a constant to its logits, which the difference of two does not have.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from relevance.errors import ConfigError
from relevance.tasks import LabeledPair, Task

# Returns the logit of each row's relevance: [N].
RowScorer = Callable[[Sequence[LabeledPair]], NDArray[np.float64]]


def checkpoint_scorer(checkpoint: Path, task: Task) -> RowScorer:
    """Return a scorer by a checkpoint of `relevance train`. Raises ConfigError for a checkpoint of another task."""
    from relevance.model.card import ModelCard

    card = ModelCard.load(checkpoint)
    if card.task is not task:
        raise ConfigError(f"vet {checkpoint}: is a checkpoint for {card.task}; expected one for {task}")

    def score(rows: Sequence[LabeledPair]) -> NDArray[np.float64]:
        from training.fitting.evaluation.report import score_logits

        return np.asarray(score_logits(checkpoint, rows)[1], dtype=np.float64)

    return score
