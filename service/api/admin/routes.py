"""The routes that show and change the models of a task."""

import asyncio
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, Request

from service.api.admin.bundle_folders import folder_below
from service.api.admin.local import is_of_this_machine
from service.api.admin.schemas import AllModels, Change, TaskModels
from service.api.body.json_route import JsonRoute
from service.api.context import service_of
from service.api.models.cards import ModelCards
from service.api.policy import Policy
from service.auth.key_file import Scope
from service.errors import InvalidRequestError
from service.lifecycle.challenger import Mode

ADMIN_KEY = Policy(Scope.ADMIN)


def refuse_other_pages(request: Request) -> None:
    """Raise InvalidRequestError for what a web page of another host sends: browsers reach this port too.

    Without API keys the host must be a name of this machine: another name may have been pointed here by its owner
    (DNS rebinding), and the page is then of that owner.
    """
    origin, host = request.headers.get("origin"), request.headers.get("host", "")
    if origin is None:
        return
    if origin.partition("://")[2] != host:
        raise InvalidRequestError(f"Origin {origin[:100]!r}: expected this interface's own page, or no web page")
    if service_of(request).keys is None and not is_of_this_machine(_name(host)):
        raise InvalidRequestError(f"Host {host[:100]!r}: expected 127.0.0.1 or localhost where no API keys are set")


router = APIRouter(prefix="/v1/admin/models", dependencies=[Depends(refuse_other_pages)], route_class=JsonRoute)


@router.get("")
@ADMIN_KEY
async def show(request: Request) -> AllModels:
    """Show the loaded models of all tasks, their roles, and the change in progress."""
    service = service_of(request)
    return AllModels(models=[TaskModels.of(task.value, each) for task, each in service.rollouts.items()])


@router.get("/{task}")
@ADMIN_KEY
async def cards(task: str, request: Request) -> ModelCards:
    """Show the cards of a task's loaded models, as `/v1/models/{task}` of the callers' port does."""
    service = service_of(request)
    active = service.model(task)
    return ModelCards.of(active.task, service.rollouts[active.task])


@router.post("/{task}")
@ADMIN_KEY
async def change(task: str, body: Change, request: Request) -> TaskModels:
    """Load and test a bundle, then switch to it or make it the challenger. Answers when that is done."""
    rollout = service_of(request).rollout(task)
    folder = await asyncio.to_thread(folder_below, body.bundle, request.app.state.roots)
    if body.share is None:
        await rollout.switch(folder)
    else:
        await rollout.try_out(folder, Mode(body.mode), body.share)
    return TaskModels.of(task, rollout)


@router.post("/{task}/rollback")
@ADMIN_KEY
async def roll_back(task: str, request: Request) -> TaskModels:
    """Swap the active and the previous model."""
    rollout = service_of(request).rollout(task)
    rollout.roll_back()
    return TaskModels.of(task, rollout)


@router.post("/{task}/promote")
@ADMIN_KEY
async def promote(task: str, request: Request) -> TaskModels:
    """Make the challenger the active model."""
    rollout = service_of(request).rollout(task)
    await rollout.promote()
    return TaskModels.of(task, rollout)


@router.delete("/{task}/challenger")
@ADMIN_KEY
async def drop(task: str, request: Request) -> TaskModels:
    """Unload the challenger."""
    rollout = service_of(request).rollout(task)
    await rollout.drop()
    return TaskModels.of(task, rollout)


def _name(host: str) -> str:
    """Return the name or address in a Host header, without its port; empty where it is malformed."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
