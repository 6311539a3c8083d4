"""Which model answers a request of another reranker's shape: by its key or parameter `model`, or by its address.

Every client that takes a base URL can name a model so, where several are served: `/models/qi/rerank`.
"""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Query, Request

from relevance.tasks import Task
from service.api.context import service_of
from service.api.rerank.fields import MODEL
from service.api.score_call import choose
from service.errors import InvalidRequestError, UnavailableError, UnknownTaskError
from service.lifecycle.service import Service
from service.scoring.served_model import ServedModel

ModelParameter = Annotated[str | None, Query(description=MODEL)]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a request asks for: the model of a task, or one version of it."""

    task: Task
    version: str | None = None


def served_model(request: Request, name: str | None) -> ServedModel:
    """Return the model that the address or `name` (a task, name or version) asks for, else the only one that is served.

    A version is answered by that very model, a canary's too. Raises UnknownTaskError for a model that is not served,
    and InvalidRequestError where a name is needed or contradicts the address; all list what is served.
    Raises UnavailableError while bundles are still loading.
    """
    service = service_of(request)
    models = service.models
    if not service.settled.is_set() or not models:
        raise UnavailableError(service.obstacle or "no model is loaded")
    in_address: str | None = request.path_params.get("model")
    if in_address is not None:
        wanted = _within(service, _wanted(service, in_address), name)
    elif name is not None:
        wanted = _wanted(service, name)
    elif len(models) == 1:
        wanted = Wanted(next(iter(models)))
    else:
        raise InvalidRequestError(f"`model` is missing and {len(models)} are served; expected {_listed(service)}")
    pinned = service.rollouts[wanted.task].versions.get(wanted.version) if wanted.version else None
    return pinned or choose(request, wanted.task)


def _wanted(service: Service, name: str) -> Wanted:
    """Return what a name asks for. Raises UnknownTaskError."""
    for task, model in service.models.items():
        if name in (task.value, model.manifest.name):
            return Wanted(task)
        if name in service.rollouts[task].versions:
            return Wanted(task, name)
    raise UnknownTaskError(f"model {name[:100]!r} is not served here; expected {_listed(service)}")


def _within(service: Service, in_address: Wanted, name: str | None) -> Wanted:
    """Return what `name` asks for, given what the address asks for.

    The name may pin a version. A name that is not served is ignored: many clients must send one. Raises
    InvalidRequestError where it contradicts the address.
    """
    try:
        named = _wanted(service, name) if name is not None else in_address
    except UnknownTaskError:
        return in_address
    other_version = named.version and in_address.version and named.version != in_address.version
    if named.task is not in_address.task or other_version:
        asked = in_address.version or in_address.task.value
        raise InvalidRequestError(
            f"model {(name or '')[:100]!r}: the address asks for {asked!r}; expected that or none"
        )
    return named if named.version else in_address


def _listed(service: Service) -> str:
    manifests = {task.value: model.manifest for task, model in service.models.items()}
    return " or ".join(f"{task!r} ({each.name}, version {each.version})" for task, each in manifests.items())
