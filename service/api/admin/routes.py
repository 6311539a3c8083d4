"""The routes that show and change the models of a task."""

import asyncio

from fastapi import APIRouter, Depends, Request

from service.api.admin.bundle_folders import folder_below
from service.api.admin.schemas import AllModels, Change, TaskModels
from service.api.body.json_route import JsonRoute
from service.api.context import service_of
from service.api.policy import Policy
from service.auth.key_file import Scope
from service.errors import InvalidRequestError
from service.lifecycle.challenger import Mode

ADMIN_KEY = Policy(Scope.ADMIN)


def refuse_web_pages(request: Request) -> None:
    """Raise InvalidRequestError for what a web page sends: a browser on this machine reaches this port too."""
    if "origin" in request.headers:
        raise InvalidRequestError("Origin: set, expected none; this interface takes nothing from web pages")


router = APIRouter(prefix="/v1/admin/models", dependencies=[Depends(refuse_web_pages)], route_class=JsonRoute)


@router.get("")
@ADMIN_KEY
async def show(request: Request) -> AllModels:
    """Show the loaded models of all tasks, their roles, and the change in progress."""
    service = service_of(request)
    return AllModels(models=[TaskModels.of(task.value, each) for task, each in service.rollouts.items()])


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
