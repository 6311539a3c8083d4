"""A model as a function that scores rows: what vets negatives, and what teaches rows in other languages.

Logits are kept on disk, so that none is computed twice and a killed run can resume.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from relevance.errors import ConfigError
from relevance.model.bundle import MANIFEST_FILE, read_manifest
from relevance.model.card import ModelCard
from relevance.tasks import LabeledPair, Task
from training.data.disk_cache import DiskCache
from training.data.provenance import content_of
from training.data.stored.batches import in_chunks
from training.progress import Meter, Pace
from training.sources import code_key

if TYPE_CHECKING:
    from training.fitting.evaluation.report import OpenedModel

# Returns the logit of each row's relevance: [N].
RowScorer = Callable[[Sequence[LabeledPair]], NDArray[np.float64]]

_FILE = "logits.sqlite"
CHUNK_PAIRS = 4096  # what a kill loses at most; a larger chunk pads less


class KeyedScorer(Protocol):
    """A RowScorer. Beside query, candidate and language of a row, its logits depend on `key` alone."""

    role: str
    key: str

    def __call__(self, rows: Sequence[LabeledPair]) -> NDArray[np.float64]:
        """Return the logit [N] of each row."""


class ModelScorer:
    """An opened checkpoint or bundle. Its logits are calibrated: their sigmoid is the model's score."""

    def __init__(self, model: "OpenedModel", role: str, content: str) -> None:
        """Take the model, what messages call it, and the hash of its files."""
        self.role, self._model = role, model
        code = code_key(
            "training.fitting.evaluation.scorer:ModelScorer", "training.fitting.evaluation.report:OpenedModel"
        )
        self.key = f"{content} {code}"

    def __call__(self, rows: Sequence[LabeledPair]) -> NDArray[np.float64]:
        """Return the logit [N] of each row. ConfigError where one is not finite."""
        languages = [row.pair.language for row in rows]
        logits = self._model.card.calibration.logits(self._model.logits(rows, self.role), languages)
        if bad := len(logits) - int(np.isfinite(logits).sum()):
            raise ConfigError(
                f"{self.role}: {bad:,} of {len(logits):,} logits are not finite; expected a model that scores them, "
                "perhaps in another precision"
            )
        return logits


class KeptScorer:
    """A scorer whose logits are kept in `folder`. Rows with the same texts and language are scored once.

    A killed process loses the current chunk and resumes with the same chunks, so that logits are the same to the last
    bit. Processes may share a folder.
    """

    def __init__(self, scorer: KeyedScorer, folder: Path) -> None:
        self._scorer, self._path = scorer, folder / _FILE

    def __call__(self, rows: Sequence[LabeledPair]) -> NDArray[np.float64]:
        """Return the logit [N] of each row. MachineError if the folder cannot be written; and as the scorer raises."""
        row_of = {_key(row): row for row in rows}
        space = (self._scorer.key,)
        with DiskCache(self._path, "logits") as cache:
            known: dict[str, Any] = cache.get(space, list(row_of))
            missing = [key for key in row_of if key not in known]
            with Meter(self._scorer.role, len(row_of), "pairs", len(known), Pace("pairs")) as meter:
                for chunk in in_chunks(missing, CHUNK_PAIRS):
                    logits = self._scorer([row_of[key] for key in chunk])
                    cache.put(space, dict(zip(chunk, logits.tolist(), strict=True)))
                    meter.advance(len(chunk))
            known |= cache.get(space, missing)  # another process may have been first
        return np.array([known[_key(row)] for row in rows], dtype=np.float64)


def model_scorer(folder: Path, task: Task, role: str) -> ModelScorer:
    """Open a checkpoint or a bundle, a cascade too; `role` names it in messages.

    Raises ConfigError for no folder and for a model of another task; CheckpointError or BundleError for a folder that
    is neither, or is damaged.
    """
    # Heavy, and not needed where commands are declared.
    from training.fitting.evaluation.report import OpenedModel

    check_model(folder, task, role)
    return ModelScorer(OpenedModel.open(folder), role, content_of(folder))


def check_model(folder: Path, task: Task, role: str) -> None:
    """Raise as `model_scorer` does for a folder whose card is none of the task; the rest is not read."""
    if not folder.is_dir():
        raise ConfigError(f"{role} {folder}: no such folder; expected a checkpoint or a bundle")
    card = read_manifest(folder) if (folder / MANIFEST_FILE).is_file() else ModelCard.load(folder)
    if card.task is not task:
        raise ConfigError(f"{role} {folder}: is a model for {card.task}; expected one for {task}")


def _key(row: LabeledPair) -> str:
    return json.dumps([row.pair.query, row.pair.candidate, row.pair.language])
