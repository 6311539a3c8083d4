"""Health and metadata by the Open Inference Protocol (KServe v2).

https://github.com/kserve/open-inference-protocol, inference_rest.md. Its error objects have the key `error`:
here they are problem details with that key added.
"""

from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from starlette.responses import JSONResponse, Response

from relevance.version import project_version
from service.api.body.json_route import JsonRoute
from service.api.context import service_of
from service.api.kserve.served import find
from service.api.policy import PROBE, SCORE_KEY, ProblemKeys
from service.api.problems import PROBLEMS, on_relevance_error
from service.errors import UnavailableError

PLATFORM = "onnxruntime_onnx"
ANY = -1  # a dimension of any size
KEY, OPEN = (replace(each, problem_keys=ProblemKeys.KSERVE) for each in (SCORE_KEY, PROBE))


class ServerMetadata(BaseModel):
    """What the server is."""

    name: str
    version: str
    extensions: list[str]


class Live(BaseModel):
    """Whether the server lives."""

    live: bool


class Ready(Live):
    """Whether the server is ready: `ready` for KServe's client and server, `live` as the protocol's page has it."""

    ready: bool


class ModelReady(BaseModel):
    """Whether one model can score."""

    name: str
    ready: bool


class Tensor(BaseModel):
    """An input or output of a model."""

    name: str
    datatype: str
    shape: list[int] = Field(description="-1: of any size")


class ModelMetadata(BaseModel):
    """What a model is called, and what goes in and out. `language` may be left out."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[Tensor]
    outputs: list[Tensor]


router = APIRouter(prefix="/v2", tags=["Open Inference Protocol"], route_class=JsonRoute)
NOT_READY: dict[int | str, dict[str, Any]] = {503: PROBLEMS[503]}
NOT_THERE: dict[int | str, dict[str, Any]] = {404: PROBLEMS[404], 503: PROBLEMS[503]}


@router.get("")
@KEY
async def server_metadata() -> ServerMetadata:
    """Say what the server is."""
    return ServerMetadata(name="relevance", version=project_version(), extensions=["binary_tensor_data"])


@router.get("/health/live", response_model=Live, responses=NOT_READY)
@OPEN
async def live(request: Request) -> Response:
    """Say that the process answers and that no model has stopped for good, as `/healthz`."""
    service = service_of(request)
    if service.dead and not service.draining:
        error = UnavailableError(service.obstacle or "a model can no longer score")
        return await on_relevance_error(request, error, {"live": False})
    return JSONResponse(Live(live=True).model_dump())


@router.get("/health/ready", response_model=Ready, responses=NOT_READY)
@OPEN
async def ready(request: Request) -> Response:
    """Say that every model can score, as `/readyz`."""
    service = service_of(request)
    if service.obstacle:
        return await on_relevance_error(request, UnavailableError(service.obstacle), {"live": False, "ready": False})
    return JSONResponse(Ready(live=True, ready=True).model_dump())


@router.get("/models/{name}", responses=NOT_THERE)
@KEY
async def model_metadata(name: str, request: Request) -> ModelMetadata:
    """Say what a model is; its name is that of its bundle, or its task (`qc`, `qi`, `rerank`)."""
    return _metadata(request, name, None)


@router.get("/models/{name}/versions/{model_version}", responses=NOT_THERE)
@KEY
async def version_metadata(name: str, model_version: str, request: Request) -> ModelMetadata:
    """Say what one version of a model is."""
    return _metadata(request, name, model_version)


@router.get("/models/{name}/ready", response_model=ModelReady, responses=NOT_THERE)
@KEY
async def model_ready(name: str, request: Request) -> Response:
    """Say that a model can score."""
    return await _readiness(request, name, None)


@router.get("/models/{name}/versions/{model_version}/ready", response_model=ModelReady, responses=NOT_THERE)
@KEY
async def version_ready(name: str, model_version: str, request: Request) -> Response:
    """Say that one version of a model can score."""
    return await _readiness(request, name, model_version)


def _metadata(request: Request, name: str, model_version: str | None) -> ModelMetadata:
    manifest = find(service_of(request), name, model_version).manifest
    return ModelMetadata(
        name=manifest.name,
        versions=[manifest.version],
        platform=PLATFORM,
        inputs=[Tensor(name=part, datatype="BYTES", shape=[ANY]) for part in ("query", "candidate", "language")],
        outputs=[
            Tensor(name="score", datatype="FP64", shape=[ANY]),
            Tensor(name="label", datatype="INT64", shape=[ANY]),
        ],
    )


async def _readiness(request: Request, name: str, model_version: str | None) -> Response:
    service = service_of(request)
    try:
        model = find(service, name, model_version)
        if service.draining or not model.alive:
            raise UnavailableError(service.obstacle or f"model {name!r} can no longer score")
    except UnavailableError as error:
        return await on_relevance_error(request, error, {"name": name, "ready": False})
    return JSONResponse(ModelReady(name=model.manifest.name, ready=True).model_dump())
