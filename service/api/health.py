"""Health and metrics: whether the process lives, whether it can score, and its figures for Prometheus."""

import asyncio

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import Response

from service.api.context import service_of
from service.api.policy import PROBE, Policy
from service.api.problems import PROBLEMS
from service.api.schemas import Health
from service.auth.key_file import Scope
from service.errors import UnavailableError

router = APIRouter()


@router.get("/healthz", responses={503: PROBLEMS[503]})
@PROBE
async def health(request: Request) -> Health:
    """Say that the process answers and that no model has stopped for good. Restart it where this fails."""
    service = service_of(request)
    if service.dead and not service.draining:
        raise UnavailableError(service.obstacle or "a model can no longer score")
    return Health(status="alive")


@router.get("/readyz", responses={503: PROBLEMS[503]})
@PROBE
async def ready(request: Request) -> Health:
    """Say that requests can be scored: bundles loaded, self-tests passed, inference threads alive, not draining."""
    service = service_of(request)
    if service.obstacle:
        raise UnavailableError(service.obstacle)
    return Health(status="ready")


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
@Policy(Scope.METRICS, named=True, traced=False)
async def metrics(request: Request) -> Response:
    """Return the metrics in the Prometheus text format."""
    service = service_of(request)
    service.refresh_metrics()
    page = await asyncio.to_thread(service.metrics.page)  # takes some milliseconds
    return Response(page, media_type=CONTENT_TYPE_LATEST)
