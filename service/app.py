"""The FastAPI app: routes, the edge around them, and the loading of bundles while it lives."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from relevance.errors import RelevanceError
from relevance.tasks import Task
from service import bulk, kserve, rerank, routes
from service.edge import OTHER, PATHS, SCORING_PATHS, Edge
from service.models import OpenEngine, open_engine
from service.problems import REASONS, STATUSES, on_http_error, on_relevance_error, on_validation_error
from service.schemas import Problem
from service.settings import Settings
from service.state import Service
from service.telemetry import Metrics

ABOUT = "Scores how relevant category paths (`qc`) and item titles (`qi`) are to a search query, in any language."


def create_app(settings: Settings, bundles: Mapping[Task, Path], open_engine: OpenEngine = open_engine) -> FastAPI:
    """Return the app. Its lifespan starts to load the bundles and returns at once: `app.state.service` tells the rest.

    Loading goes on while the app already answers, so that liveness and readiness are apart from the first second.
    """
    metrics = Metrics(bundles, (*PATHS, OTHER), SCORING_PATHS)
    metrics.preset_reasons(REASONS, STATUSES, SCORING_PATHS)
    service = Service(settings, bundles, metrics, open_engine)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.start()
        try:
            yield
        finally:
            await service.close()

    app = FastAPI(title="relevance", summary=ABOUT, version=version("relevance"), lifespan=lifespan)
    app.state.service = service
    for router in (routes.router, bulk.router, rerank.router, kserve.router):
        app.include_router(router)
    app.add_middleware(Edge, service=service)
    app.add_exception_handler(RelevanceError, on_relevance_error)
    app.add_exception_handler(HTTPException, on_http_error)
    app.add_exception_handler(RequestValidationError, on_validation_error)
    _describe_problems(app)
    return app


def _describe_problems(app: FastAPI) -> None:
    """Add the schema of problem details to the OpenAPI page, which knows only what routes return."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        page = generate()
        schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        page["components"]["schemas"] |= schema.pop("$defs", {}) | {"Problem": schema}
        return page

    app.openapi = openapi  # type: ignore[method-assign]
