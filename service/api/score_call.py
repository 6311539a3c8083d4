"""Scores the pairs of one request; all interactive routes use it.

Chooses the model, checks the limits, cancels the work of a caller that disconnects, and fills the request's record.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from starlette.requests import Request

from relevance.tasks import Pair
from service.api.context import context_of, service_of
from service.errors import ClientGoneError, InvalidRequestError
from service.scoring.admission import PAIRS, FieldNames, check_pairs
from service.scoring.model_metrics import Role
from service.scoring.served_model import Scored, ServedModel

Answer = TypeVar("Answer")

MODEL_HEADER = "X-Relevance-Model"


def choose(request: Request, task: str, *, by_share: bool = True) -> ServedModel:
    """Return the model that answers a request for `task`: the one that its header names, else by the canary's share.

    Acquire its lease, as `score_pairs` does, before anything is awaited. Raises UnknownTaskError, UnavailableError, and
    InvalidRequestError for a header that names no model.
    """
    service = service_of(request)
    active, asked = service.model(task), request.headers.get(MODEL_HEADER)
    rollout = service.rollouts[active.task]
    if asked is None:
        # By the id as the caller sent it, even if it is not valid for the log: all requests of a call go to one model.
        caller = request.headers.get("x-request-id") or context_of(request).request_id
        return (rollout.answering(caller) if by_share else None) or active
    named = {Role.ACTIVE.value: active} | ({Role.CHALLENGER.value: rollout.canary} if rollout.canary else {})
    if asked not in named:
        raise InvalidRequestError(f"{MODEL_HEADER} {asked[:100]!r}: expected {' or '.join(named)}; {task} has no other")
    return named[asked]


async def score_pairs(
    request: Request, model: ServedModel, pairs: Sequence[Pair], names: FieldNames = PAIRS, *, partial: bool = False
) -> Scored:
    """Return the scores of pairs, in their order, by one model; where `partial`, of as many first ones as can be.

    `names` are the names of the query and the candidates in errors. Raises TooLargeError and InvalidRequestError
    for pairs over a limit or without text, and what `score_checked` raises.
    """
    check_pairs(pairs, service_of(request).settings, names)
    return await score_checked(request, model, pairs, partial=partial)


async def score_checked(
    request: Request, model: ServedModel, pairs: Sequence[Pair], *, partial: bool = False
) -> Scored:
    """Return the scores of pairs that are within the limits, in their order, by one model, as `score_pairs` does.

    Raises OverloadedError, DeadlineError, ScoringError, UnavailableError and ClientGoneError.
    """
    context = context_of(request)
    record = context.record
    record.task, record.version, record.pairs = model.task, model.manifest.version, len(pairs)
    with model.leases.acquire():
        scored = await while_connected(request, model.score(pairs, context, partial=partial))
    if scored.unscored:
        record.pairs = len(pairs) - len(scored.unscored)
    else:
        service_of(request).rollouts[model.task].answered(context.request_id, model, pairs, scored)
    record.tokens, record.timing = scored.tokens, scored.timing
    return scored


async def while_connected(request: Request, work: Coroutine[Any, Any, Answer]) -> Answer:
    """Return the result of `work`, or cancel it when the caller closes the connection. The body must have been read."""
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGoneError("the caller closed the connection before the answer was ready")
        return task.result()
    finally:
        task.cancel()
        gone.cancel()
