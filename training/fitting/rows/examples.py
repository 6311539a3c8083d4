"""The rows of a run as numbers on disk: all that training reads of a row.

Token ids, features, labels, targets, weights and facts are columns in the files of one folder, mapped into memory. A
process reads those of the rows that it computes, and the processes of a machine share what was read.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, overload

import numpy as np
from numpy.typing import NDArray

from relevance.storage.files import whole_folder
from relevance.tasks import LabeledPair
from relevance.text.token_columns import TokenColumns
from relevance.text.tokenization import TokenizedPair
from training.data.labels.weights import share_column, weight_column
from training.data.stored.rows import labels_of
from training.fitting.rows.row_facts import NO_FACTS, Floats, Ints, RowFacts

_IDS, _TYPES = "ids.int32", "types.uint8"  # of all tokens, one pair after the other; no file where all types are 0
_FEATURES = "features.float32"  # no file where models read none


class StoredTokens(Sequence[TokenizedPair]):
    """Tokenised pairs [N] in the files of a folder; whether they are truncated is not kept.

    `lengths` int32 [N] are their tokens, special ones included.
    """

    def __init__(self, folder: Path) -> None:
        self.lengths: NDArray[np.int32] = _mapped(folder, "lengths")
        self.used_ids: NDArray[np.int32] = _mapped(folder, "used_ids")  # each id that occurs, ascending
        self._ends = _mapped(folder, "ends")
        self._ids = _plain(folder / _IDS, np.int32)
        self._types = _plain(folder / _TYPES, np.uint8) if (folder / _TYPES).is_file() else None
        self._features = np.zeros((len(self.lengths), 0), np.float32)
        if (folder / _FEATURES).is_file():
            self._features = _plain(folder / _FEATURES, np.float32).reshape(len(self.lengths), -1)

    def __len__(self) -> int:
        return len(self.lengths)

    @overload
    def __getitem__(self, at: int) -> TokenizedPair: ...
    @overload
    def __getitem__(self, at: slice) -> list[TokenizedPair]: ...
    def __getitem__(self, at: int | slice) -> TokenizedPair | list[TokenizedPair]:
        if isinstance(at, slice):
            return [self[n] for n in range(*at.indices(len(self)))]
        at = range(len(self))[at]
        length, end = int(self.lengths[at]), int(self._ends[at])
        types = [0] * length if self._types is None else self._types[end - length : end].tolist()
        features = tuple(self._features[at].tolist())
        return TokenizedPair(self._ids[end - length : end].tolist(), types, False, features)


@dataclass(frozen=True, eq=False)
class Examples:
    """Tokenised pairs, labels [N] in {0, 1} for the AUC, targets [N] in [0, 1] and weights [N] of the loss.

    `queries` and `teacher` [N] serve sampling and losses within a query; empty where the recipe does not ask.
    """

    pairs: StoredTokens
    labels: NDArray[np.int8]
    targets: Floats
    weights: Floats
    queries: Ints
    teacher: Floats

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open the folder of `store_examples`."""
        names = ("labels", "targets", "weights", "queries", "teacher")
        return cls(StoredTokens(folder), *(_mapped(folder, name) for name in names))


def store_examples(
    folder: Path,
    rows: Sequence[LabeledPair],
    blocks: Iterable[TokenColumns],
    facts: RowFacts = NO_FACTS,
    priors: Floats | None = None,
) -> Examples:
    """Write rows [N] and their tokenised pairs into a folder, whole or not at all, and open it.

    `priors` [N, 3] replace the features of the category prior. Weights are multiplied by the factors of the facts.
    MachineError if the disk is full.
    """
    weights = weight_column(rows)
    columns = {
        "labels": labels_of(rows),
        "targets": share_column(rows),
        "weights": weights * facts.factors if len(facts.factors) else weights,
        "queries": facts.queries,
        "teacher": facts.teacher,
    }
    with whole_folder(folder) as beside:
        columns |= _write_tokens(beside, blocks, priors)
        for name, values in columns.items():
            np.save(beside / f"{name}.npy", values)
    return Examples.open(folder)


def token_ids(*parts: Examples) -> list[int]:
    """Return the ids of all tokens of some examples, ascending."""
    return np.unique(np.concatenate([part.pairs.used_ids for part in parts])).tolist()


def _write_tokens(
    folder: Path, blocks: Iterable[TokenColumns], priors: Floats | None
) -> dict[str, NDArray[np.integer]]:
    """Write ids, types and features of all tokens; return the columns of the pairs beside them."""
    lengths: list[NDArray[np.int32]] = []
    used: set[int] = set()
    at = 0
    for block in blocks:
        ids, types = block.flat(np.arange(len(block)))
        features = block.features
        if priors is not None:
            features[:, -priors.shape[1] :] = priors[at : at + len(block)]
        _append(folder / _IDS, ids)
        if types is not None:
            _append(folder / _TYPES, types.astype(np.uint8))
        if features.shape[1]:
            _append(folder / _FEATURES, features)
        lengths.append(block.lengths.astype(np.int32))
        used.update(np.unique(ids).tolist())
        at += len(block)
    every = np.concatenate(lengths)
    return {"lengths": every, "ends": np.cumsum(every, dtype=np.int64), "used_ids": np.array(sorted(used), np.int32)}


def _append(path: Path, values: NDArray[np.generic]) -> None:
    with path.open("ab") as file:
        file.write(values.tobytes())


def _mapped(folder: Path, name: str) -> NDArray[Any]:
    return np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r"))


def _plain(path: Path, dtype: type[np.generic]) -> NDArray[Any]:
    """Map a file of numbers without a header."""
    return np.asarray(np.memmap(path, dtype, "r"))
