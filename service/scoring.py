"""From pairs to scores for one request: the one way in that every scoring route uses.

Looks up the model, checks the limits, keeps the deadline, drops the work of a caller that went away, and notes what
the log line and the Server-Timing header of the request hold.
"""

import asyncio
import time
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from starlette.requests import Request

from relevance.tasks import Pair, Task
from service.admission import PAIRS, Names, check
from service.edge import TIMEOUT_HEADER, Timing, deadline_of
from service.errors import ClientGoneError
from service.models import Scored
from service.state import Service

Answer = TypeVar("Answer")

__all__ = ["PAIRS", "TIMEOUT_HEADER", "Names", "Scored", "score_pairs"]


async def score_pairs(request: Request, task: Task | str, pairs: Sequence[Pair], names: Names = PAIRS) -> Scored:
    """Return the scores of pairs, in their order, by the model that serves `task`.

    `names` says what the query and the candidates are called in errors. Raises UnknownTaskError, UnavailableError,
    TooLargeError, InvalidRequestError, OverloadedError, DeadlineError, ScoringError and ClientGoneError;
    `service.problems` knows them all.
    """
    service: Service = request.app.state.service
    model = service.model(task)
    check(pairs, service.settings, names)
    request.state.logged |= {"task": model.task.value, "pairs": len(pairs)}
    deadline = deadline_of(request, service.settings)
    scored = await while_connected(request, model.score(pairs, deadline))
    request.state.logged["tokens"] = scored.tokens
    request.state.timing = Timing(scored.seconds, model.metrics, len(pairs), time.monotonic())
    return scored


async def while_connected(request: Request, work: Coroutine[Any, Any, Answer]) -> Answer:
    """Return what `work` returns, or cancel it when the caller closes the connection (the body is read by then)."""
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGoneError("the caller closed the connection before the answer was there")
        return task.result()
    finally:
        task.cancel()
        gone.cancel()
