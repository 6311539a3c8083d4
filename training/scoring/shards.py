"""Scores the rows of a file in shards of a few thousand, keeps them, and reads them back in the order of the file.

A shard is sorted by length for its batches, not the whole file: that pads a little more and holds little in memory.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from relevance.errors import MachineError
from relevance.scorer import Scorer
from relevance.tokenization import TokenizedPair
from training.progress import Meter
from training.scoring.input import Placed, Source
from training.scoring.work import SHARD, Work


class Scored(NamedTuple):
    """The scores of a row: its place in the source, score, label by threshold, and whether text was cut."""

    place: int
    score: float
    label: int
    truncated: bool


@dataclass(frozen=True)
class _Shard:
    index: int
    rows: list[Placed]
    tokens: list[TokenizedPair] | None  # None: scored before


@dataclass(frozen=True)
class Shards:
    """The `total` good rows of a source in shards of `size`, whose scores are kept in a work folder."""

    source: Source
    work: Work
    scorer: Scorer
    size: int
    total: int

    def score(self) -> int:
        """Score the missing shards; return how many rows were scored before. Shows progress."""
        resumed = 0
        with Meter("score", self.total, "pairs", done=self.work.rows()) as meter:
            for shard in self._prepared():
                if shard.tokens is None:
                    resumed += len(shard.rows)
                    continue
                found = self.scorer.score_tokens([row.pair for _, row in shard.rows], shard.tokens)
                kept = np.zeros(len(shard.rows), dtype=SHARD)
                kept["place"] = [place for place, _ in shard.rows]
                kept["score"], kept["label"], kept["truncated"] = found.scores, found.labels, found.truncated
                self.work.save(shard.index, kept)
                meter.advance(len(shard.rows))
        return resumed

    def scored(self) -> Iterator[Scored]:
        """Yield the scores of every good row, in the order of the file. MachineError for a missing shard."""
        for index, start in enumerate(range(0, self.total, self.size)):
            kept = self.work.load(index, min(self.size, self.total - start))
            if kept is None:
                raise MachineError(f"work folder {self.work.folder}: shard {index} is gone; run the command again")
            yield from map(Scored._make, kept.tolist())

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

    def _prepared(self) -> Iterator[_Shard]:
        """Yield the shards, each read and tokenised in a second thread while the model runs over the one before."""
        shards = self._tokenized()
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(next, shards, None)
            while (shard := waiting.result()) is not None:
                waiting = pool.submit(next, shards, None)
                yield shard

    def _tokenized(self) -> Iterator[_Shard]:
        source = self.source.good()
        for index, start in enumerate(range(0, self.total, self.size)):
            rows = list(islice(source, min(self.size, self.total - start)))
            is_scored = self.work.load(index, len(rows)) is not None
            yield _Shard(index, rows, None if is_scored else self.scorer.tokenize([row.pair for _, row in rows]))
