"""Scores the rows of a file in shards of a few thousand, keeps them, and reads them back in the order of the file.

A shard is sorted by length for its batches, not the whole file: that pads a little more and holds little in memory.
"""

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from relevance.errors import MachineError
from relevance.model.bundle import Manifest
from relevance.scorer import ReadPairs, Scorer
from relevance.tasks import Task
from training.progress import Meter
from training.scoring.input import Source
from training.scoring.staged import ShardRows, StagedRows
from training.scoring.work import SHARD, Work


class Scored(NamedTuple):
    """The scores of a row: its place in the source, score, label by threshold, and whether text was cut."""

    place: int
    score: float
    label: int
    truncated: bool


class ModelId(NamedTuple):
    """What scores: its task, the version that rows carry, and the digest of all that its scores depend on."""

    task: Task
    version: str
    digest: str

    @classmethod
    def of(cls, manifest: Manifest) -> "ModelId":
        """Return that of a bundle."""
        return cls(manifest.task, manifest.version, manifest.digest)


class Runner(Protocol):
    """Scores shards: in this process (`LocalRunner`), on Ray (`RayRunner`) or by an endpoint (`EndpointRunner`)."""

    @property
    def model(self) -> ModelId:
        """What scores."""

    @property
    def device(self) -> str:
        """Where the model runs: `cpu`, `cuda` or `endpoint`."""

    def run(self, shards: Iterable[int], staged: StagedRows) -> Iterator[tuple[int, NDArray[np.void]]]:
        """Yield index and scores, of dtype SHARD [rows], of the shards with these indexes, in any order."""


@dataclass(frozen=True)
class Shards:
    """The `total` good rows of a source in shards of `size`, whose scores are kept in a work folder."""

    source: Source
    staged: StagedRows
    work: Work
    runner: Runner
    size: int
    total: int

    def score(self) -> int:
        """Score the missing shards; return how many rows were scored before. Shows progress.

        A shard is saved, which waits for the disk, while the next one runs.
        """
        resumed = self.total
        missing = (index for index, rows in self._sizes() if self.work.load(index, rows) is None)
        with Meter("score", self.total, "pairs", done=self.work.rows()) as meter, ThreadPoolExecutor(1) as saver:
            saving: Future[None] | None = None
            for index, kept in self.runner.run(missing, self.staged):
                if saving is not None:
                    saving.result()
                saving = saver.submit(self.work.save, index, kept)
                resumed -= len(kept)
                meter.advance(len(kept))
            if saving is not None:
                saving.result()
        return resumed

    def finished(self) -> Iterator[tuple[int, NDArray[np.void]]]:
        """Yield index and scores of every shard, in order. MachineError for a missing one."""
        for index, rows in self._sizes():
            kept = self.work.load(index, rows)
            if kept is None:
                raise MachineError(f"work folder {self.work.folder}: shard {index} is gone; run the command again")
            yield index, kept

    def scored(self) -> Iterator[Scored]:
        """Yield the scores of every good row, in the order of the file. Errors as `finished`."""
        return (Scored._make(row) for _, kept in self.finished() for row in kept[list(Scored._fields)].tolist())

    def records(self) -> Iterator[tuple[Scored, dict[str, Any]]]:
        """Yield the scores of every good row with the record as the file has it."""
        scored = self.scored()
        wanted = next(scored, None)
        for place, record in enumerate(self.source.records()):
            if wanted and wanted.place == place:
                yield wanted, record
                wanted = next(scored, None)

    def predictions(self) -> Iterator[tuple[str, int]]:
        """Yield the id and the label by threshold of every good row."""
        return ((row.id, scored.label) for (_, row), scored in zip(self.source.good(), self.scored(), strict=True))

    def _sizes(self) -> Iterator[tuple[int, int]]:
        """Yield the index of every shard and how many rows it has."""
        return ((n, min(self.size, self.total - start)) for n, start in enumerate(range(0, self.total, self.size)))


@dataclass(frozen=True)
class LocalRunner:
    """Scores shards in this process; each is read and tokenised in a second thread while the one before runs."""

    scorer: Scorer

    @property
    def model(self) -> ModelId:
        """What scores."""
        return ModelId.of(self.scorer.manifest)

    @property
    def device(self) -> str:
        """Where the model runs."""
        return self.scorer.device

    def run(self, shards: Iterable[int], staged: StagedRows) -> Iterator[tuple[int, NDArray[np.void]]]:
        """Yield the shards' scores, in order."""
        rows = map(staged.shard, shards)
        tokenized = ((each, self.scorer.tokenize(each.queries, each.candidates, each.languages)) for each in rows)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(next, tokenized, None)
            while (found := waiting.result()) is not None:
                waiting = pool.submit(next, tokenized, None)
                yield found[0].index, score_rows(self.scorer, *found)


def score_rows(scorer: Scorer, rows: ShardRows, tokens: ReadPairs) -> NDArray[np.void]:
    """Return the scores of a shard, of dtype SHARD [rows]. The same rows and options give the same bytes."""
    found = scorer.score_tokens(tokens)
    kept = np.zeros(len(rows.places), dtype=SHARD)
    kept["place"] = rows.places
    kept["score"], kept["label"], kept["truncated"] = found.scores, found.labels, found.truncated
    return kept
