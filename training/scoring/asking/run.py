"""Scores a file by a language model behind an endpoint, in the shards and the output of every other scorer."""

import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from relevance.tasks import Task
from training.data.disk_cache import DiskCache
from training.data.files.writers import beside
from training.endpoint.budget import Cost
from training.scoring.asking.teacher import Teacher
from training.scoring.options import AskOptions, ScoreOptions
from training.scoring.run import ScoreReport, check_paths, score_by
from training.scoring.staged import StagedRows
from training.scoring.work import SHARD

log = logging.getLogger(__name__)


class AskReport(ScoreReport):
    """What asking did, beside the scores. `cost` and `known` are of this run, without one that it resumes."""

    cost: Cost
    known: int = Field(description="pairs whose answer was in the cache and cost nothing; equal pairs count once")

    def text(self) -> str:
        """Return the report in words."""
        known = f"{self.known:,} pairs known before, {self.undecided:,} undecided"
        return f"{super().text()}\n  {self.cost.text()}; {known}"


class EndpointRunner:
    """Scores shards by a teacher."""

    device = "endpoint"

    def __init__(self, teacher: Teacher) -> None:
        self._teacher, self.model = teacher, teacher.model

    def run(self, shards: Iterable[int], staged: StagedRows) -> Iterator[tuple[int, NDArray[np.void]]]:
        """Yield the shards' scores, in order."""
        for shard in map(staged.shard, shards):
            kept = np.zeros(len(shard.places), dtype=SHARD)
            kept["place"] = shard.places
            kept["score"], kept["undecided"] = self._teacher.scores(shard.queries, shard.candidates)
            kept["label"] = kept["score"] >= 0.5
            yield shard.index, kept


def answers_file(out: Path, cache: Path | None) -> Path:
    """Return where answers are kept from run to run."""
    return cache or beside(out, "answers.sqlite")


def ask_file(
    asking: AskOptions, task: Task, file: Path, out: Path, options: ScoreOptions, cache: Path | None = None
) -> AskReport:
    """Score the rows of `file` by a language model and write them to `out`, as `score_file` does.

    Raises what that raises, and as `Teacher.scores` does. Answers are kept in `cache`, or beside `out`.
    """
    began = time.monotonic()
    check_paths(file, out, [], options)
    with DiskCache(answers_file(out, cache), "answers") as kept, closing(Teacher(asking, task, kept)) as teacher:
        report = score_by(EndpointRunner(teacher), f"teacher {asking.model!r}", file, out, options)
    if report.undecided:
        log.warning(
            "%s: %d pairs were answered with neither %r nor %r; their score is 0.5",
            *(out, report.undecided, asking.yes, asking.no),
        )
    own = {"cost": teacher.budget.cost, "known": teacher.known}
    total = {"total_seconds": round(time.monotonic() - began, 3)}
    return AskReport(**(report.model_dump() | own | total))
