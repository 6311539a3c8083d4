"""The FastAPI app of callers: its routes, the middleware around them, and its OpenAPI page."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from starlette.responses import JSONResponse, Response

from relevance.tasks import Task
from relevance.version import project_version
from service.api import health, score
from service.api.bulk import route
from service.api.feedback import route as feedback
from service.api.kserve import health as kserve
from service.api.kserve import infer
from service.api.middleware import RequestMiddleware
from service.api.models import routes as models
from service.api.page.routes import docs_router, page_routers
from service.api.policy import MODEL_PREFIX, SCORE_KEY, RoutePolicies
from service.api.problems import PROBLEMS, REASONS, STATUSES, handle_problems
from service.api.recording import RequestRecorder
from service.api.rerank import cohere, jina, predict, tei
from service.api.rerank.fields import MODEL
from service.api.schemas import Problem
from service.auth.keys import Keys
from service.lifecycle.service import Service
from service.observability.metrics import Metrics
from service.scoring.served_model import OpenEngine, open_engine
from service.settings import Settings

ABOUT = (
    "Scores how relevant category paths (`qc`), item titles (`qi`) and other documents (`rerank`) are to a search "
    "query, in any language."
)


def create_app(settings: Settings, bundles: Mapping[Task, Path], open_engine: OpenEngine = open_engine) -> FastAPI:
    """Return the app. Its lifespan starts to load the bundles and returns at once; see `app.state.service`.

    The app answers while bundles load, so that liveness and readiness differ from the first second.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service: Service = app.state.service
        service.start()
        try:
            yield
        finally:
            await service.close()

    app = FastAPI(
        title="relevance",
        summary=ABOUT,
        version=project_version(),
        lifespan=lifespan,
        openapi_url=None,  # FastAPI's own route makes the page on the event loop
        docs_url=None,  # FastAPI's own pages load scripts from another host; `service.api.page` has `/docs`
        redoc_url=None,
        # FastAPI's own telemetry, which variables turn on, would send refused bodies
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    app.router.redirect_slashes = False  # a redirect would repeat the caller's Host header
    for shape in (score, models, health, route, cohere, jina, tei, predict, kserve, infer, feedback):
        app.include_router(shape.router)
    for router in (_openapi_router(), docs_router(), *page_routers(settings, admin=False)):
        app.include_router(router)
    policies = RoutePolicies.of(app, unknown=SCORE_KEY)
    metrics = Metrics(bundles, policies.labels, policies.scoring, policies.timed)
    metrics.preset_reasons(REASONS, STATUSES, policies.scoring)
    service = app.state.service = Service(settings, bundles, metrics, open_engine)
    app.state.policies = policies
    app.add_middleware(RequestMiddleware, service=service, policies=policies, record=RequestRecorder(service))
    handle_problems(app)
    _complete_openapi(app, service.keys, policies)
    return app


def _openapi_router() -> APIRouter:
    """Return the route of the OpenAPI page. A thread makes the page: the first time, it takes some 400 ms."""
    router = APIRouter(include_in_schema=False)

    @router.get("/openapi.json")
    @SCORE_KEY
    async def openapi(request: Request) -> Response:
        """Return the description of all routes."""
        return JSONResponse(await asyncio.to_thread(request.app.openapi))

    return router


def _complete_openapi(app: FastAPI, keys: Keys | None, policies: RoutePolicies) -> None:
    """Add to the page of the routes: the schema of problem details, prefixed addresses, and API keys."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        page = generate()
        schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        page["components"]["schemas"] |= schema.pop("$defs", {}) | {"Problem": schema}
        _describe_prefix(page, policies)
        if keys is not None:
            _describe_keys(page, keys, policies)
        return page

    app.openapi = openapi  # type: ignore[method-assign]


def _describe_prefix(page: dict[str, Any], policies: RoutePolicies) -> None:
    """Add the addresses that name the model."""
    name = {"name": "model", "in": "path", "required": True, "schema": {"type": "string"}, "description": MODEL}
    for path in policies.prefixed:
        post = page["paths"][path]["post"]
        others = [each for each in post.get("parameters", ()) if each["name"] != "model"]
        prefixed = post | {"operationId": f"{post['operationId']}_of_model", "parameters": [name, *others]}
        page["paths"].setdefault(MODEL_PREFIX + path, {"post": prefixed})


def _describe_keys(page: dict[str, Any], keys: Keys, policies: RoutePolicies) -> None:
    text = "an API key; it may be sent as `X-API-Key` too"
    page["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer", "description": text}}
    for path, operations in page["paths"].items():
        for operation in operations.values() if keys.needed(policies.find(path).policy.scope) else ():
            operation["security"] = [{"key": []}]
            for status in (401, 403, 429):
                operation["responses"].setdefault(str(status), PROBLEMS[status])
