"""The native route: scores one query with its candidates, or pairs spelled out."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Request
from pydantic_core import to_json
from starlette.responses import Response

from service.api import schemas
from service.api.body.json_route import JsonRoute
from service.api.feedback.scored import log_scores
from service.api.policy import Policy
from service.api.problems import PROBLEMS
from service.api.score_call import choose, score_pairs
from service.auth.key_file import Scope
from service.scheduling.job import Priority
from service.scoring.admission import CANDIDATES, PAIRS
from service.scoring.served_model import Scored, ServedModel

router = APIRouter(route_class=JsonRoute)


@router.post("/v1/score", responses=PROBLEMS, response_model=schemas.ScoreResponse)
@Policy(Scope.SCORE, scores=Priority.INTERACTIVE, named=True, timed=True)
async def score(
    body: Annotated[schemas.ScoreRequest, Body(openapi_examples=schemas.EXAMPLES)], request: Request
) -> Response:
    """Score pairs: one query with many candidates, or pairs spelled out. Scores keep the order of the request.

    With `partial`, as many of the first pairs as can be scored by the deadline; the answer names the others.
    """
    model, pairs = choose(request, body.task), body.to_pairs()
    names = PAIRS if body.candidates is None else CANDIDATES
    scored = await score_pairs(request, model, pairs, names, partial=body.partial)
    log_scores(request, model, pairs, scored)
    return _response(model, scored, body.partial)


def _response(model: ServedModel, scored: Scored, partial: bool) -> Response:
    """Return a `schemas.ScoreResponse`, without a pydantic object for each score: these would take most of the time."""
    scores: list[Any] = [
        {"score": score, "label": label} for score, label in zip(scored.scores.tolist(), scored.labels, strict=True)
    ]
    for place in scored.unscored:
        scores[place] = None
    answer = {
        "task": model.task.value,
        "model": {"name": model.manifest.name, "version": model.manifest.version},
        "scores": scores,
        "thresholds": scored.thresholds,
        "truncated": scored.truncated,
        "usage": {"pairs": len(scored.labels) - len(scored.unscored), "tokens": scored.tokens},
    } | ({"unscored": list(scored.unscored)} if partial else {})
    return Response(to_json(answer), media_type="application/json")
