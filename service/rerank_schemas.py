"""Requests and answers in the shapes of other rerankers: Cohere v1 and v2, Jina, TEI, Elasticsearch, OpenSearch.

Keys that a server does not know are treated as that server treats them: Cohere's v2 refuses them, the others ignore
them. Keys that it knows and that mean nothing here are taken and left alone; docs/api.md lists them.
"""

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator
from pydantic.config import JsonDict

from service.errors import InvalidRequestError

Flag = Annotated[bool | None, Field(strict=True)]
Count = Annotated[int | None, Field(strict=True, ge=1)]
Document = str | dict[str, Any]
DEFAULT_RANK_FIELDS = ("text",)

_RERANK: JsonDict = {
    "model": "qi",
    "query": "wireless earphones",
    "documents": ["Bluetooth earphones", "Red cup"],
    "top_n": 1,
}
_TEXTS: JsonDict = {
    "model": "qi",
    "query": "wireless earphones",
    "texts": ["Bluetooth earphones", "Red cup"],
    "return_text": True,
}
_PAIRS: JsonDict = {
    "model": "qi",
    "inputs": [["wireless earphones", "Bluetooth earphones"], ["wireless earphones", "Red cup"]],
}
_OBJECTS: JsonDict = {"model": "qi", "inputs": [{"text": "wireless earphones", "text_pair": "Bluetooth earphones"}]}

MODEL = "task (`qc`, `qi`), name or version of a served model; may be left out where only one is served"


class CohereV2Request(BaseModel):
    """What `/v2/rerank` takes."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [_RERANK]})

    query: str
    documents: list[Document] = Field(description="texts, or objects with a `text`")
    model: str | None = Field(None, description=MODEL)
    top_n: Count = Field(None, description="how many results to return; absent: all")
    max_tokens_per_doc: Count = Field(None, description="at least what the model reads: documents are cut to that")
    return_documents: Flag = Field(None, description="sent by Elasticsearch, though Cohere's v2 has it no longer")
    max_chunks_per_doc: int | None = Field(None, description="taken and left alone: documents are not chunked")
    priority: int | None = Field(None, description="taken and left alone")

    @property
    def rank_fields(self) -> tuple[str, ...]:
        """The keys of an object that are ranked by."""
        return DEFAULT_RANK_FIELDS


class V1Request(BaseModel):
    """What `/v1/rerank` takes, from clients of Cohere's v1 and of Jina."""

    model_config = ConfigDict(json_schema_extra={"examples": [_RERANK | {"return_documents": True}]})

    query: str
    documents: list[Document] = Field(description="texts, or objects with a `text`")
    model: str | None = Field(None, description=MODEL)
    top_n: Count = Field(None, description="how many results to return; absent: all")
    return_documents: Flag = Field(None, description="whether results carry their document")
    rank_fields: list[str] | None = Field(None, min_length=1, description="keys of an object to rank by, in this order")
    max_tokens_per_doc: Count = Field(None, description="at least what the model reads: documents are cut to that")


class TeiRerankRequest(BaseModel):
    """What `/rerank` takes: TEI's shape, or that of Elasticsearch's `hugging_face` service (`documents`)."""

    model_config = ConfigDict(json_schema_extra={"examples": [_TEXTS]})

    query: str
    texts: list[str] | None = None
    documents: list[str] | None = Field(None, description="what Elasticsearch sends in place of `texts`")
    model: str | None = Field(None, description=MODEL)
    raw_scores: Flag = Field(None, description="logits in place of probabilities")
    return_text: Flag = None
    return_documents: Flag = Field(None, description="what Elasticsearch sends in place of `return_text`")
    truncate: Flag = Field(None, description="false: refuse pairs that are longer than the model reads; else cut them")
    top_n: Count = Field(None, description="how many results to return; absent: all")

    @model_validator(mode="after")
    def _one_list(self) -> Self:
        if (self.texts is None) == (self.documents is None):
            raise ValueError("expected either `texts` or `documents`")
        return self

    @property
    def candidates(self) -> list[str]:
        """The texts, whatever they are called."""
        return (self.texts if self.documents is None else self.documents) or []


class TextPair(BaseModel):
    """A pair as OpenSearch's connector and transformers pipelines write it."""

    text: str
    text_pair: str


def _form(inputs: Any) -> str | None:
    """Return which of the forms of `inputs` this is; None for something else."""
    if isinstance(inputs, dict):
        return "object"
    if not isinstance(inputs, list):
        return None
    first = inputs[0] if inputs else []
    return "pair" if isinstance(first, str) else "objects" if isinstance(first, dict) else "pairs"


Inputs = Annotated[
    Annotated[tuple[str, str], Tag("pair")]
    | Annotated[list[tuple[str, str]], Tag("pairs")]
    | Annotated[TextPair, Tag("object")]
    | Annotated[list[TextPair], Tag("objects")],
    Discriminator(
        _form,
        custom_error_type="inputs_form",
        custom_error_message="expected a pair [query, candidate], a list of pairs, or objects with text and text_pair",
    ),
]


class PredictRequest(BaseModel):
    """What `/predict` takes: TEI's pairs, or OpenSearch's objects."""

    model_config = ConfigDict(json_schema_extra={"examples": [_PAIRS, _OBJECTS]})

    inputs: Inputs
    model: str | None = Field(None, description=MODEL)
    raw_scores: Flag = Field(None, description="logits in place of probabilities")
    truncate: Flag = Field(None, description="false: refuse pairs that are longer than the model reads; else cut them")


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
    meta: dict[str, Any] = Field(description="api version, tokens, and warnings where documents were cut")


class RerankUsage(BaseModel):
    """Tokens read, under both of Jina's names."""

    prompt_tokens: int
    total_tokens: int


class V1Response(CohereResponse):
    """What `/v1/rerank` answers with, best first."""

    model: str
    usage: RerankUsage


class TeiRank(BaseModel):
    """One result of `/rerank`."""

    index: int
    score: float
    text: str | None = Field(None, description="left out unless asked for")


class Prediction(BaseModel):
    """One class of `/predict` and its probability; there is one class, relevant."""

    label: str
    score: float


def document_text(document: Document, place: int, fields: tuple[str, ...]) -> str:
    """Return what a document is ranked by: the text, or the values of an object's `fields`, a line each.

    Fields that an object does not have are left out. Raises InvalidRequestError where none is there or is no text.
    """
    if isinstance(document, str):
        return document
    found = [document[field] for field in fields if document.get(field) is not None]
    if not found or not all(isinstance(value, str) for value in found):
        raise InvalidRequestError(f"documents[{place}]: expected a text, or an object with text under {list(fields)}")
    return "\n".join(found)
