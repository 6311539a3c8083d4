"""Cohere's v2: `/v2/rerank`, and what its v1 shares with it.

Keys that Cohere does not know are refused. Keys that it knows and that have no meaning here are ignored; docs/api.md
lists them. Languages are unknown in this shape.
"""

import difflib
import json
from collections.abc import Sequence
from typing import Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, model_validator
from starlette.responses import Response

from relevance.tasks import Pair
from service.api.body.json_route import JsonRoute
from service.api.context import context_of
from service.api.list_type import Many
from service.api.policy import Policy, ProblemKeys
from service.api.problems import PROBLEMS
from service.api.rerank.documents import Document, document_text
from service.api.rerank.fields import INTERLEAVE, MODEL, PARTIAL, RERANK_EXAMPLE, Count, Flag
from service.api.rerank.model_choice import served_model
from service.api.rerank.ranked import Ranked, Wish, rank_documents
from service.api.rerank.ranking import answer
from service.auth.key_file import Scope
from service.errors import InvalidRequestError
from service.scheduling.job import Priority
from service.scoring.admission import FieldNames

DOCUMENTS = FieldNames("documents", "query", "documents[{}]")
DEFAULT_RANK_FIELDS = ("text",)
MAX_WARNED = 10  # documents that a warning names
LEVELS_AROUND = 16  # more levels of nesting than an answer has around a document

router = APIRouter(responses=PROBLEMS, route_class=JsonRoute)


class RelevantSpans(BaseModel):
    """Cohere's request for the parts of a document that made its score: there are none here."""

    mode: Literal["disabled"]


class CohereRequest(BaseModel):
    """What Cohere's v1 and v2 have in common."""

    query: str
    documents: Many[Document] = Field(description="texts, or objects with a `text`; null is a blank text")
    model: str | None = Field(None, description=MODEL)
    top_n: Count = Field(None, description="how many results to return; absent: all")
    max_tokens_per_doc: Count = Field(None, description="at least what the model reads: documents are cut to that")
    return_documents: Flag = Field(None, description="whether results carry their document")
    rank_fields: Many[str] | None = Field(None, min_length=1, description="keys of an object to rank by, in this order")
    partial: Flag = Field(None, description=PARTIAL)
    interleave: Flag = Field(None, description=INTERLEAVE)


class CohereV2Request(CohereRequest):
    """What `/v2/rerank` takes; `return_documents` and `rank_fields` are of older clients."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [RERANK_EXAMPLE]})

    max_chunks_per_doc: Count = Field(None, description="ignored: documents are not chunked")
    priority: int | None = Field(None, description="ignored")
    relevant_spans: RelevantSpans | None = Field(None, description="only `disabled`: none are found here")

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, body: Any) -> Any:
        """Name the first unknown key, and the known key that is most like it."""
        unknown = next((key for key in body if key not in cls.model_fields), None) if isinstance(body, dict) else None
        if unknown is not None:
            alike = difflib.get_close_matches(unknown[:100], cls.model_fields, 1)
            raise ValueError(f"{unknown[:100]}: unknown key" + (f"; did you mean `{alike[0]}`?" if alike else ""))
        return body


class RerankedDocument(BaseModel):
    """A result's document, where it was asked for; an object keeps its other keys."""

    model_config = ConfigDict(extra="allow")

    text: str | None = None


class RerankResult(BaseModel):
    """One result of `/v1/rerank` and `/v2/rerank`."""

    index: int = Field(description="place of the document in the request, from 0")
    relevance_score: float
    document: RerankedDocument | None = Field(None, description="left out unless asked for")


class CohereResponse(BaseModel):
    """What `/v2/rerank` answers with, best first."""

    id: str = Field(description="the request id")
    results: list[RerankResult]
    meta: dict[str, Any] = Field(
        description="api version, tokens, warnings where documents were cut or not scored; with `partial` the places "
        "of those not scored as `unscored`"
    )


@router.post("/v2/rerank", response_model=CohereResponse)
@Policy(Scope.SCORE, scores=Priority.INTERACTIVE, named=True, model_prefix=True, problem_keys=ProblemKeys.COHERE)
async def rerank_v2(body: CohereV2Request, request: Request) -> Response:
    """Rank documents as Cohere's v2 does, best first."""
    ranked = await rerank(body, request)
    return answer(cohere_answer(body, request, ranked), ranked.model, ranked.scored, ranked.interleaved)


async def rerank(body: CohereRequest, request: Request) -> Ranked:
    """Rank the documents of a request."""
    model = served_model(request, body.model)
    limit, reads = body.max_tokens_per_doc, model.manifest.max_length
    if body.return_documents:
        _check_returnable(body.documents)
    if limit is not None and limit < reads:
        raise InvalidRequestError(
            f"max_tokens_per_doc: {limit}, expected at least {reads}: documents are cut to what the model reads"
        )
    fields = tuple(dict.fromkeys(body.rank_fields or DEFAULT_RANK_FIELDS))
    if body.rank_fields and len(fields) < len(body.rank_fields):  # else 1 kB in a document could become 1 MB
        raise InvalidRequestError(f"rank_fields: {len(body.rank_fields)} keys, expected each once")
    pairs = [Pair(body.query, document_text(each, place, fields)) for place, each in enumerate(body.documents)]
    wish = Wish(body.top_n, partial=bool(body.partial), interleave=bool(body.interleave))
    return await rank_documents(request, model, pairs, DOCUMENTS, wish)


def cohere_answer(body: CohereRequest, request: Request, ranked: Ranked) -> dict[str, Any]:
    """Return what the answers of Cohere's v1 and v2 have in common."""
    scored, scores = ranked.scored, ranked.scored.scores.tolist()
    results: list[dict[str, Any]] = [{"index": place, "relevance_score": scores[place]} for place in ranked.order]
    if body.return_documents:
        documents = [each if isinstance(each, dict) else {"text": each or ""} for each in body.documents]
        results = [result | {"document": documents[result["index"]]} for result in results]
    meta: dict[str, Any] = {
        "api_version": {"version": "2" if isinstance(body, CohereV2Request) else "1"},
        "billed_units": {"search_units": 1},
        "tokens": {"input_tokens": scored.tokens},
    }
    cut = f"cut to the {ranked.model.manifest.max_length} tokens that the model reads"
    warnings = [(cut, scored.truncated), ("not scored before the deadline", scored.unscored)]
    if any(places for _, places in warnings):
        meta["warnings"] = [f"{said}: {_named(places)}" for said, places in warnings if places]
    if body.partial:
        meta["unscored"] = list(scored.unscored)
    return {"id": context_of(request).request_id, "results": results, "meta": meta}


def _named(places: Sequence[int]) -> str:
    """Return the first documents at these places, and how many more there are."""
    named = ", ".join(f"documents[{place}]" for place in places[:MAX_WARNED])
    return named + (f" and {len(places) - MAX_WARNED} more" if len(places) > MAX_WARNED else "")


def _check_returnable(documents: Sequence[Document]) -> None:
    """Raise InvalidRequestError where a document cannot be written into the answer.

    Python reads NaN, which is not JSON, and reads deeper nesting than it can write one level further in.
    """
    for place, document in enumerate(documents):
        probe: Any = document
        for _ in range(LEVELS_AROUND if isinstance(document, dict) else 0):
            probe = [probe]
        try:
            json.dumps(probe, allow_nan=False)
        except ValueError:
            raise InvalidRequestError(f"documents[{place}]: holds NaN or Infinity, expected JSON") from None
        except RecursionError:
            raise InvalidRequestError(f"documents[{place}]: nested too deeply to be returned") from None
