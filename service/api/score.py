"""The HTTP interface: scoring, models, health and metrics."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Body, Request
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic_core import to_json
from starlette.responses import Response

from relevance.metrics import Slice
from service.api import schemas
from service.api.body.json_route import JsonRoute
from service.api.middleware import SCORE_PATH
from service.api.problems import KINDS
from service.api.score_call import choose, score_pairs
from service.errors import UnavailableError
from service.lifecycle.service import Service
from service.scoring.admission import CANDIDATES, PAIRS
from service.scoring.served_model import Scored, ServedModel

PROBLEMS: dict[int | str, dict[str, Any]] = {
    kind.status: {
        "description": kind.title,
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    for kind in KINDS.values()
    if kind.status != 499
}

router = APIRouter(route_class=JsonRoute)


@router.post(SCORE_PATH, responses=PROBLEMS, response_model=schemas.ScoreResponse)
async def score(
    body: Annotated[schemas.ScoreRequest, Body(openapi_examples=schemas.EXAMPLES)], request: Request
) -> Response:
    """Score pairs: one query with many candidates, or pairs spelled out. Scores keep the order of the request."""
    model = choose(request, body.task)
    scored = await score_pairs(request, model, body.to_pairs(), PAIRS if body.candidates is None else CANDIDATES)
    return _response(model, scored)


@router.get("/v1/models")
async def models(request: Request) -> schemas.ModelList:
    """List the models that are loaded: what they are, their thresholds and how good they were on their dev set."""
    service: Service = request.app.state.service
    return schemas.ModelList(models=[_info(model) for model in service.models.values()])


@router.get("/healthz", responses={503: PROBLEMS[503]})
async def health(request: Request) -> schemas.Health:
    """Say that the process answers and that no model has stopped for good. Restart it where this fails."""
    service: Service = request.app.state.service
    if service.dead and not service.draining:
        raise UnavailableError(service.obstacle or "a model can no longer score")
    return schemas.Health(status="alive")


@router.get("/readyz", responses={503: PROBLEMS[503]})
async def ready(request: Request) -> schemas.Health:
    """Say that requests can be scored: bundles loaded, self-tests passed, inference threads alive, not draining."""
    service: Service = request.app.state.service
    if service.obstacle:
        raise UnavailableError(service.obstacle)
    return schemas.Health(status="ready")


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(request: Request) -> Response:
    """Return the metrics in the Prometheus text format."""
    service: Service = request.app.state.service
    service.refresh_metrics()
    page = await asyncio.to_thread(service.metrics.page)  # some milliseconds, in which others go on
    return Response(page, media_type=CONTENT_TYPE_LATEST)


def _response(model: ServedModel, scored: Scored) -> Response:
    """Return a `schemas.ScoreResponse`, written without a model object a score: large requests are mostly this."""
    scores = [
        {"score": score, "label": label} for score, label in zip(scored.scores.tolist(), scored.labels, strict=True)
    ]
    answer = {
        "task": model.task.value,
        "model": {"name": model.manifest.name, "version": model.manifest.version},
        "scores": scores,
        "thresholds": scored.thresholds,
        "truncated": scored.truncated,
        "usage": {"pairs": len(scored.labels), "tokens": scored.tokens},
    }
    return Response(to_json(answer), media_type="application/json")


def _info(model: ServedModel) -> schemas.ModelInfo:
    manifest = model.manifest
    return schemas.ModelInfo(
        **manifest.model_dump(include={"name", "task", "base_model", "license", "precision", "max_length"}),
        **manifest.model_dump(include={"threshold", "language_thresholds", "created"}),
        version=manifest.version,
        device=model.engine.device,
        languages=list(manifest.seen_languages),
        quality=_quality(manifest.metrics.all) if manifest.metrics else None,
    )


def _quality(dev: Slice) -> schemas.ModelQuality:
    return schemas.ModelQuality(
        rows=dev.rows, f1=dev.f1.value, always_yes_f1=dev.always_yes_f1.value, auc=dev.auc.value
    )
