"""Scores as many of a request's first pairs as its deadline and the backlog allow. Knows no texts and no HTTP.

The pairs go to the model in parts, in their order. Each part is the largest that can be done in half of the time
left, by the recent throughput; if even one pair takes longer, the largest that can be done in all of it. So a request
that has time enough is one part, and a wrong estimate costs the last part alone. The model knows nothing of this: a
part is a request like any other.
"""

import contextlib
import itertools
import time
from collections.abc import Awaitable, Callable, Sequence

import numpy as np

from relevance.text.tokenization import TokenizedPair
from service.errors import DeadlineError, OverloadedError
from service.scoring.admission import Admits
from service.scoring.stage import Run

SHARES = (0.5, 1.0)  # of the time left, in which a part is to be done
ANSWER_SECONDS = 0.005  # from the last score to the last byte of the answer


async def score_first(
    score: Callable[[int, int, float], Awaitable[Run]],
    admission: Admits,
    pairs: Sequence[TokenizedPair],
    deadline: float,
) -> list[Run]:
    """Return the runs of the first pairs, in their order; ends ANSWER_SECONDS before the deadline.

    `score(start, end, until)` runs the pairs from `start` up to `end`. Raises DeadlineError or OverloadedError where
    not even the first part was scored, and what `score` raises.
    """
    runs: list[Run] = []
    start, until = 0, deadline - ANSWER_SECONDS
    while start < len(pairs):
        try:
            end = start + _admitted(admission, pairs[start:], until)
            runs.append(await score(start, end, until))
        except (DeadlineError, OverloadedError):
            if not runs:
                raise
            break
        start = end
    return runs


def _admitted(admission: Admits, pairs: Sequence[TokenizedPair], deadline: float) -> int:
    """Return how many of the first pairs are admitted: all of them, or the largest of the halves of their number.

    Raises DeadlineError or OverloadedError where not even one is.
    """
    tokens = np.cumsum([len(pair.input_ids) for pair in pairs])
    counts = [len(pairs) >> step for step in range(len(pairs).bit_length())]
    for share, count in itertools.product(SHARES, counts):
        now = time.monotonic()
        with contextlib.suppress(DeadlineError, OverloadedError):
            admission.admit(int(tokens[count - 1]), now + share * (deadline - now))
            return count
    admission.admit(int(tokens[0]), deadline)  # raises the reason
    return 1
