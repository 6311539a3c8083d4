"""`/rerank` of text-embeddings-inference (TEI), also as Elasticsearch's `hugging_face` service calls it.

Unknown keys are ignored, as TEI does. Languages are unknown in this shape.
"""

from typing import Any, Self

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.config import JsonDict
from starlette.responses import Response

from relevance.tasks import Pair
from service.api.body.json_route import JsonRoute
from service.api.list_type import Many
from service.api.policy import Policy, ProblemKeys
from service.api.problems import PROBLEMS
from service.api.rerank.cohere import DOCUMENTS
from service.api.rerank.fields import INTERLEAVE, MODEL, PARTIAL, Count, Direction, Flag, Text
from service.api.rerank.model_choice import ModelParameter, served_model
from service.api.rerank.ranked import Wish, rank_documents
from service.api.rerank.ranking import answer, values
from service.auth.key_file import Scope
from service.scheduling.job import Priority
from service.scoring.admission import FieldNames

TEXTS = FieldNames("texts", "query", "texts[{}]")
EXAMPLE: JsonDict = {
    "model": "qi",
    "query": "wireless earphones",
    "texts": ["Bluetooth earphones", "Red cup"],
    "return_text": True,
}

router = APIRouter(responses=PROBLEMS, route_class=JsonRoute)


class TeiRerankRequest(BaseModel):
    """What `/rerank` takes: TEI's shape, or that of Elasticsearch's `hugging_face` service (`documents`)."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    query: str
    texts: Many[Text] | None = Field(None, description="null is a blank text")
    documents: Many[Text] | None = Field(None, description="what Elasticsearch sends in place of `texts`")
    model: str | None = Field(None, description=MODEL)
    raw_scores: Flag = Field(None, description="logits in place of probabilities")
    return_text: Flag = None
    return_documents: Flag = Field(None, description="what Elasticsearch sends in place of `return_text`")
    truncate: Flag = Field(None, description="false: refuse pairs that are longer than the model reads; else cut them")
    truncation_direction: Direction = None
    top_n: Count = Field(None, description="how many results to return; absent: all")
    partial: Flag = Field(None, description=PARTIAL)
    interleave: Flag = Field(None, description=INTERLEAVE)

    @model_validator(mode="after")
    def _one_list(self) -> Self:
        if (self.texts is None) == (self.documents is None):
            raise ValueError("expected either `texts` or `documents`")
        return self

    @property
    def candidates(self) -> list[str]:
        """The texts, whatever they are called."""
        return [text or "" for text in (self.texts if self.documents is None else self.documents) or []]


class TeiRank(BaseModel):
    """One result of `/rerank`."""

    index: int
    score: float
    text: str | None = Field(None, description="left out unless asked for")


@router.post("/rerank", response_model=list[TeiRank])
@Policy(Scope.SCORE, scores=Priority.INTERACTIVE, named=True, model_prefix=True, problem_keys=ProblemKeys.TEI)
async def rerank_tei(body: TeiRerankRequest, request: Request, model: ModelParameter = None) -> Response:
    """Rank texts as text-embeddings-inference does, best first."""
    served = served_model(request, body.model or model)
    texts, names = body.candidates, TEXTS if body.documents is None else DOCUMENTS
    pairs = [Pair(body.query, text) for text in texts]
    wish = Wish(body.top_n, body.truncate is not False, bool(body.partial), bool(body.interleave))
    ranked = await rank_documents(request, served, pairs, names, wish)
    found = values(ranked.scored, bool(body.raw_scores))
    ranks: list[dict[str, Any]] = [{"index": place, "score": found[place]} for place in ranked.order]
    if body.return_text or body.return_documents:
        ranks = [rank | {"text": texts[rank["index"]]} for rank in ranks]
    return answer(ranks, ranked.model, ranked.scored, ranked.interleaved)
