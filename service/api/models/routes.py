"""The routes of the callers' port that show models."""

from fastapi import APIRouter, Request

from service.api.context import service_of
from service.api.models.cards import ModelCards
from service.api.models.listing import ModelInfo, ModelList
from service.api.policy import Policy
from service.api.problems import PROBLEMS
from service.auth.key_file import Scope

router = APIRouter()


@router.get("/v1/models")
@Policy(Scope.SCORE, named=True)
async def models(request: Request) -> ModelList:
    """List the models that are loaded: what they are, their thresholds and how good they were on their dev set."""
    return ModelList(models=[ModelInfo.of(model) for model in service_of(request).models.values()])


@router.get("/v1/models/{task}", responses=PROBLEMS)
@Policy(Scope.SCORE)
async def cards(task: str, request: Request) -> ModelCards:
    """Show the cards of a task's loaded models: the active one, the challenger and the previous one."""
    service = service_of(request)
    active = service.model(task)
    return ModelCards.of(active.task, service.rollouts[active.task])
