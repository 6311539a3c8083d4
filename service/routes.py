"""The HTTP interface: scoring, models, health and metrics."""

import asyncio
from collections.abc import Coroutine
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Body, Request
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import Response

from relevance.metrics import Slice
from service import schemas
from service.admission import check
from service.edge import SCORE_PATH
from service.errors import ClientGoneError, UnavailableError
from service.models import Scored, ServedModel
from service.problems import KINDS
from service.state import Service

Answer = TypeVar("Answer")

PROBLEMS: dict[int | str, dict[str, Any]] = {
    kind.status: {
        "description": kind.title,
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    for kind in KINDS.values()
    if kind.status != 499
}

router = APIRouter()


@router.post(SCORE_PATH, responses=PROBLEMS)
async def score(
    body: Annotated[schemas.ScoreRequest, Body(openapi_examples=schemas.EXAMPLES)], request: Request
) -> schemas.ScoreResponse:
    """Score pairs: one query with many candidates, or pairs spelled out. Scores keep the order of the request."""
    service: Service = request.app.state.service
    model = service.model(body.task)
    check(body, service.settings)
    request.state.logged |= {"task": model.task.value, "pairs": body.count}
    scored = await _while_connected(request, model.score(body.to_pairs()))
    request.state.logged["tokens"] = scored.tokens
    return _response(model, scored)


@router.get("/v1/models")
async def models(request: Request) -> schemas.ModelList:
    """List the models that are loaded: what they are, their thresholds and how good they were on their dev set."""
    service: Service = request.app.state.service
    return schemas.ModelList(models=[_info(model) for model in service.models.values()])


@router.get("/healthz")
async def health() -> schemas.Health:
    """Say that the process answers. Restart it where this fails."""
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
    service.metrics.ready.set(service.obstacle is None)
    for task, model in service.models.items():
        service.metrics.queued_tokens.labels(task).set(model.scheduler.queued_tokens)
    return Response(generate_latest(service.metrics.registry), media_type=CONTENT_TYPE_LATEST)


async def _while_connected(request: Request, work: Coroutine[Any, Any, Answer]) -> Answer:
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


def _response(model: ServedModel, scored: Scored) -> schemas.ScoreResponse:
    return schemas.ScoreResponse(
        task=model.task,
        model=schemas.ModelVersion(name=model.manifest.name, version=model.manifest.version),
        scores=[
            schemas.Score(score=score, label=label)
            for score, label in zip(scored.scores.tolist(), scored.labels, strict=True)
        ],
        thresholds=scored.thresholds,
        truncated=scored.truncated,
        usage=schemas.Usage(pairs=len(scored.labels), tokens=scored.tokens),
    )


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
