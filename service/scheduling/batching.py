"""Forms one model run from the pairs of waiting jobs. Knows token counts; knows no threads, clock, deadline or model.

The longest waiting pair of the job that leads sets the width of the batch. The other jobs fill it with pairs of about
that width, longest first, each with an equal share of the rows. So jobs are scored side by side, each from its long
pairs to its short ones, with little padding.
"""

from collections.abc import Sequence

from relevance.text.tokenization import TokenizedPair
from service.batch_shape import BatchShape
from service.scheduling.job import Job


class Batch:
    """Pairs of one or more jobs that run together, padded to `width`."""

    def __init__(self, width: int) -> None:
        self.width, self.rows = width, 0
        self.full = False  # large enough for its speed to say what the model can do
        self.parts: list[tuple[Job, list[int]]] = []

    def add(self, job: Job, count: int, min_length: int = 0) -> int:
        """Move up to `count` pairs of at least `min_length` tokens from a job into the batch; return how many."""
        if taken := job.take(count, self.width, min_length) if count > 0 else []:
            self.parts.append((job, taken))
            self.rows += len(taken)
        return len(taken)

    @property
    def pairs(self) -> list[TokenizedPair]:
        """The pairs in the order of the rows."""
        return [job.pairs[place] for job, places in self.parts for place in places]

    @property
    def jobs(self) -> list[Job]:
        """The jobs that have pairs in the batch, each once."""
        return list(dict.fromkeys(job for job, _ in self.parts))


def form_batch(jobs: Sequence[Job], shape: BatchShape, leader_rows: int = 1, leaders: int = 1) -> Batch:
    """Remove the next batch from waiting jobs. The first `leaders` of them get up to `leader_rows` rows each first.

    The longest pair of the first job sets the width. Much shorter pairs wait for a batch of their own length, unless
    padding them is nearly free. Rows x width stays within `shape.max_tokens`, unless one pair alone is longer.
    """
    batch = Batch(shape.padded_length(jobs[0].longest))
    for leader in jobs[:leaders]:
        batch.add(leader, min(leader_rows, shape.max_rows(batch.width) - batch.rows))
    order, spare = [*jobs[leaders:], *jobs[:leaders]], shape.free_tokens  # leaders also take the rows that are left
    while True:
        fill(batch, order, shape.max_rows(batch.width) - batch.rows, shape.min_length(batch.width))
        spare -= _fill_with_short(batch, jobs, shape.max_rows(batch.width) - batch.rows, spare)
        longer = [above for job in order if (above := job.shortest_above(batch.width)) is not None]
        if not longer or batch.rows >= shape.max_rows(batch.width):
            return batch
        width = shape.padded_length(min(longer))
        spare -= batch.rows * (width - batch.width)
        if spare < 0 or batch.rows >= shape.max_rows(width):
            return batch
        batch.width = width


def fill(batch: Batch, jobs: Sequence[Job], room: int, min_length: int = 0) -> None:
    """Fill up to `room` rows in equal shares, as far as the jobs have pairs of `min_length` tokens to the width."""
    before = -1
    while room > 0 and room != before:
        before = room
        for left, job in zip(range(len(jobs), 0, -1), jobs, strict=True):
            room -= batch.add(job, -(-room // left), min_length) if job.waiting else 0


def _fill_with_short(batch: Batch, jobs: Sequence[Job], room: int, spare: int) -> int:
    """Fill up to `room` rows with shorter pairs while their padding is at most `spare` tokens; return the padding."""
    padding = 0
    for job in jobs:
        while room > 0 and (length := job.longest_within(batch.width)) and padding + batch.width - length <= spare:
            padding += batch.width - length
            room -= batch.add(job, 1)
    return padding
