"""Ranks documents by one model, or by the active model and the challenger in turns (team-draft interleaving).

Interleaving is for measuring, so it never fails a request: without a challenger that answers callers, or where it
fails, the answer is the active model's own ranking, and says so in a header.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from starlette.requests import Request
from starlette.types import Message

from relevance.errors import RelevanceError
from relevance.feedback import Team
from relevance.tasks import Pair
from service.api.context import context_of, put, service_of, target_of
from service.api.feedback.scored import Answered, log_scores
from service.api.rerank.documents import score_documents
from service.api.rerank.ranking import best_first
from service.api.score_call import MODEL_HEADER
from service.errors import InvalidRequestError
from service.feedback.team_draft import Draft, team_draft
from service.scoring.admission import FieldNames
from service.scoring.request_context import RequestRecord
from service.scoring.served_model import Scored, ServedModel


class Interleaved(StrEnum):
    """Whether an answer is interleaved, as its header says; if not, why."""

    YES = "true"
    NO_LOG = "no_log"
    NOT_SAMPLED = "not_sampled"
    NO_CHALLENGER = "no_challenger"
    CHALLENGER_FAILED = "challenger_failed"


@dataclass(frozen=True, slots=True)
class Wish:
    """What a request asks of its ranking."""

    top_n: int | None
    truncate: bool = True
    partial: bool = False
    interleave: bool = False


@dataclass(frozen=True, slots=True)
class Ranked:
    """A ranking: the model that scored, the scores of all documents, and the places of the answered ones, best first.

    `interleaved` is None where it was not asked for.
    """

    model: ServedModel
    scored: Scored
    order: Sequence[int]
    interleaved: Interleaved | None = None


async def rank_documents(
    request: Request, model: ServedModel, pairs: Sequence[Pair], names: FieldNames, wish: Wish
) -> Ranked:
    """Return the ranking of documents, and offer it to the feedback log.

    An interleaved ranking has the scores of the active model. Raises what
    `service.api.rerank.documents.score_documents` raises, and InvalidRequestError where a header names the model of an
    interleaved ranking.
    """
    if wish.interleave:
        return await _interleaved(request, model, pairs, names, wish)
    return await _ranked(request, model, pairs, names, wish)


async def _ranked(request: Request, model: ServedModel, pairs: Sequence[Pair], names: FieldNames, wish: Wish) -> Ranked:
    scored = await score_documents(request, model, pairs, names, truncate=wish.truncate, partial=wish.partial)
    order = best_first(scored, model, wish.top_n)
    log_scores(request, model, pairs, scored, Answered(order))
    return Ranked(model, scored, order)


async def _interleaved(
    request: Request, model: ServedModel, pairs: Sequence[Pair], names: FieldNames, wish: Wish
) -> Ranked:
    if MODEL_HEADER in request.headers:
        raise InvalidRequestError(f"interleave: true, and {MODEL_HEADER} names one model; expected one of the two")
    rollout = service_of(request).rollouts[model.task]
    active, challenger = rollout.active or model, rollout.canary
    obstacle = _obstacle(request, challenger)
    if challenger is None or obstacle is not None:
        return replace(await _ranked(request, active, pairs, names, wish), interleaved=obstacle)
    trying = asyncio.create_task(_tried(_aside(request), challenger, pairs, names, wish))
    try:
        scored = await score_documents(request, active, pairs, names, truncate=wish.truncate, partial=wish.partial)
        tried = await trying
    finally:
        trying.cancel()
    own = best_first(scored, active, None)
    if tried is None:
        order = own[: wish.top_n]
        log_scores(request, active, pairs, scored, Answered(order))
        return Ranked(active, scored, order, Interleaved.CHALLENGER_FAILED)
    known = set(own)
    theirs = [place for place in best_first(tried, challenger, None) if place in known]
    draft = team_draft(own, theirs, f"{context_of(request).request_id} {pairs[0].query}")
    order = draft.order[: wish.top_n]
    log_scores(request, active, pairs, scored, Answered(order, challenger, _teams(draft, len(pairs))))
    return Ranked(active, scored, order, Interleaved.YES)


def _obstacle(request: Request, challenger: ServedModel | None) -> Interleaved | None:
    """Return why a request is not interleaved; None: it is."""
    feedback = service_of(request).feedback
    if feedback is None:
        return Interleaved.NO_LOG
    if not feedback.samples(context_of(request).request_id):
        return Interleaved.NOT_SAMPLED
    return None if challenger is not None and challenger.alive else Interleaved.NO_CHALLENGER


async def _tried(
    request: Request, model: ServedModel, pairs: Sequence[Pair], names: FieldNames, wish: Wish
) -> Scored | None:
    """Return the challenger's scores, None where it fails."""
    try:
        return await score_documents(request, model, pairs, names, truncate=wish.truncate, partial=wish.partial)
    except RelevanceError:
        return None


def _aside(request: Request) -> Request:
    """Return a copy of a request with a record of its own: what is reported of the request is the active model's work.

    It never sees the caller go; the request itself does.
    """
    context = replace(context_of(request), record=RequestRecord())
    return Request(put(request.scope, context, target_of(request)), _silence)


async def _silence() -> Message:
    return await asyncio.Future[Message]()


def _teams(draft: Draft, count: int) -> list[Team | None]:
    """Return whose pick each of `count` candidates is."""
    teams = dict(zip(draft.order, draft.teams, strict=True))
    return [teams.get(place) for place in range(count)]
