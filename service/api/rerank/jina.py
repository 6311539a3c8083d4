"""Jina's shape and Cohere's v1, which share the route `/v1/rerank`. Unknown keys are ignored, as both do."""

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict
from starlette.responses import Response

from service.api.body.json_route import JsonRoute
from service.api.policy import Policy, ProblemKeys
from service.api.problems import PROBLEMS
from service.api.rerank.cohere import CohereRequest, CohereResponse, cohere_answer, rerank
from service.api.rerank.fields import RERANK_EXAMPLE
from service.api.rerank.ranking import answer
from service.auth.key_file import Scope
from service.scheduling.job import Priority

router = APIRouter(responses=PROBLEMS, route_class=JsonRoute)


class V1Request(CohereRequest):
    """What `/v1/rerank` takes, from clients of Cohere's v1 and of Jina."""

    model_config = ConfigDict(json_schema_extra={"examples": [RERANK_EXAMPLE | {"return_documents": True}]})


class RerankUsage(BaseModel):
    """Tokens read, under both of Jina's names."""

    prompt_tokens: int
    total_tokens: int


class V1Response(CohereResponse):
    """What `/v1/rerank` answers with, best first."""

    model: str
    usage: RerankUsage


@router.post("/v1/rerank", response_model=V1Response)
@Policy(Scope.SCORE, scores=Priority.INTERACTIVE, named=True, model_prefix=True, problem_keys=ProblemKeys.COHERE)
async def rerank_v1(body: V1Request, request: Request) -> Response:
    """Rank documents as Cohere's v1 and Jina do, best first."""
    ranked = await rerank(body, request)
    usage = {"prompt_tokens": ranked.scored.tokens, "total_tokens": ranked.scored.tokens}
    content = cohere_answer(body, request, ranked) | {"model": ranked.model.manifest.name, "usage": usage}
    return answer(content, ranked.model, ranked.scored, ranked.interleaved)
