"""The admin interface: changes the models of a running service. An app of its own, on a port of its own.

It shares the `Service` with the app that scores, knows the same API keys, and wants those of scope `admin`.
"""

import asyncio
import contextlib
import ipaddress
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Request

from relevance.errors import ConfigError
from relevance.version import project_version
from service.api import health
from service.api.admin_schemas import AllModels, Change, TaskModels
from service.api.body.json_route import JsonRoute
from service.api.context import service_of
from service.api.middleware import RequestMiddleware
from service.api.policy import Policy, RoutePolicies
from service.api.problems import handle_problems
from service.api.recording import record_admin_request
from service.auth.key_file import Scope
from service.errors import InvalidRequestError
from service.lifecycle.challenger import Mode
from service.lifecycle.service import Service
from service.settings import Settings

PREFIX = "/v1/admin/models"
ADMIN = Policy(Scope.ADMIN)
HEALTH: Mapping[str, Callable[..., Any]] = {
    "/healthz": health.health,
    "/readyz": health.ready,
    "/metrics": health.metrics,
}


def refuse_web_pages(request: Request) -> None:
    """Raise InvalidRequestError for what a web page sends: a browser on this machine reaches this port too."""
    if "origin" in request.headers:
        raise InvalidRequestError("Origin: set, expected none; this interface takes nothing from web pages")


router = APIRouter(prefix=PREFIX, dependencies=[Depends(refuse_web_pages)], route_class=JsonRoute)


@router.get("")
@ADMIN
async def show(request: Request) -> AllModels:
    """Tell which models are loaded, what each is there for, and the change that is under way."""
    service = service_of(request)
    return AllModels(models=[TaskModels.of(task.value, each) for task, each in service.rollouts.items()])


@router.post("/{task}")
@ADMIN
async def change(task: str, body: Change, request: Request) -> TaskModels:
    """Load a bundle beside what serves, test it and then switch to it or try it out. Answers when that is done."""
    service = service_of(request)
    rollout = service.rollout(task)
    folder = await asyncio.to_thread(folder_below, body.bundle, request.app.state.roots)
    if body.share is None:
        await rollout.switch(folder)
    else:
        await rollout.try_out(folder, Mode(body.mode), body.share)
    return TaskModels.of(task, rollout)


@router.post("/{task}/rollback")
@ADMIN
async def roll_back(task: str, request: Request) -> TaskModels:
    """Let the active and the previous model change places."""
    rollout = service_of(request).rollout(task)
    rollout.roll_back()
    return TaskModels.of(task, rollout)


@router.post("/{task}/promote")
@ADMIN
async def promote(task: str, request: Request) -> TaskModels:
    """Make the challenger the active model."""
    rollout = service_of(request).rollout(task)
    await rollout.promote()
    return TaskModels.of(task, rollout)


@router.delete("/{task}/challenger")
@ADMIN
async def drop(task: str, request: Request) -> TaskModels:
    """Unload the challenger."""
    rollout = service_of(request).rollout(task)
    await rollout.drop()
    return TaskModels.of(task, rollout)


def create_admin_app(service: Service, roots: Sequence[Path]) -> FastAPI:
    """Return the app of the admin interface, which loads bundles from below the `roots`. It starts nothing itself."""
    app = FastAPI(
        title="relevance admin",
        version=project_version(),
        docs_url=None,
        redoc_url=None,
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},  # as in service.api.app
    )
    app.router.redirect_slashes = False
    app.state.service, app.state.roots = service, roots
    app.include_router(router)
    for path, route in HEALTH.items():
        app.add_api_route(path, route)
    policies = RoutePolicies.of(app, unknown=ADMIN)
    app.add_middleware(RequestMiddleware, service=service, policies=policies, record=record_admin_request)
    handle_problems(app)
    return app


def bundle_roots(settings: Settings, bundles: Iterable[Path]) -> list[Path]:
    """Return the folders below which bundles may be, symbolic links resolved. Raises ConfigError for a missing one."""
    given = [settings.bundle_root] if settings.bundle_root else [folder.absolute().parent for folder in bundles]
    roots = sorted({root.resolve() for root in given})
    for root in roots:
        if not root.is_dir():
            raise ConfigError(f"bundle_root {root}: no such folder; expected one that holds bundles")
    return roots


def folder_below(name: str, roots: Sequence[Path]) -> Path:
    """Return the folder of a bundle, symbolic links resolved; a relative name is looked for below each root.

    Raises InvalidRequestError where it is not below a root; what is there is then not looked at.
    """
    for root in roots:
        with contextlib.suppress(OSError, ValueError, RuntimeError):  # too long, no path at all, a circle of links
            folder = (root / name).resolve()
            if folder != root and folder.is_relative_to(root) and folder.is_dir():
                return folder
    allowed = " or ".join(map(str, roots))
    raise InvalidRequestError(f"bundle {name[:200]!r}: expected a folder below {allowed}")


def check_admin(settings: Settings) -> None:
    """Raise ConfigError where the admin interface cannot be had with these settings."""
    if settings.admin_port is None:
        return
    if settings.api_keys is None and not _of_this_machine_only(settings.admin_host):
        raise ConfigError(
            f"admin_host {settings.admin_host}: whoever reaches it could change models; expected 127.0.0.1, or "
            "api_keys with a key of scope admin"
        )


def _of_this_machine_only(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
