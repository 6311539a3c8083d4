"""Offers a scored request to the feedback log, where there is one and the request is in its share."""

from collections.abc import Sequence
from dataclasses import dataclass

from starlette.requests import Request

from relevance.feedback import Team
from relevance.tasks import Pair
from service.api.context import context_of, service_of
from service.feedback.entries import ScoresEntry, Source
from service.scoring.served_model import Scored, ServedModel


@dataclass(frozen=True, slots=True)
class Answered:
    """The order of an answer: the places of the pairs, best first, and whose picks they are where it is interleaved."""

    order: Sequence[int]
    challenger: ServedModel | None = None
    teams: Sequence[Team | None] | None = None


def log_scores(
    request: Request, model: ServedModel, pairs: Sequence[Pair], scored: Scored, answered: Answered | None = None
) -> None:
    """Log the scores of a request's pairs. `answered` is the order of a ranked answer; None: it keeps the request's."""
    feedback, request_id = service_of(request).feedback, context_of(request).request_id
    if feedback is None or not feedback.samples(request_id):
        return
    challenger = None if answered is None or answered.challenger is None else answered.challenger.manifest.version
    source = Source(request_id, model.task, model.manifest.name, model.manifest.version, challenger)
    order, teams = (None, None) if answered is None else (answered.order, answered.teams)
    feedback.offer(ScoresEntry(source, pairs, scored.scores.tolist(), scored.labels, order, teams))
