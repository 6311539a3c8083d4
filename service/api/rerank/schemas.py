"""Requests and answers in the shapes of other rerankers: Cohere v1 and v2, Jina, TEI, Elasticsearch, OpenSearch.

Keys that a server does not know are treated as that server treats them: Cohere's v2 refuses them, the others ignore
them. Keys that it knows and that mean nothing here are taken and left alone; docs/api.md lists them.
"""

import difflib
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator
from pydantic.config import JsonDict

from service.api.list_type import Many
from service.errors import InvalidRequestError

TRUTHS = {"true": True, "false": False}
DIGITS = 18  # more than any count has


def _flag(value: Any) -> Any:
    """Read a flag that is written as a text, as templates of OpenSearch's connectors do."""
    return TRUTHS.get(value.lower(), value) if isinstance(value, str) else value


def _count(value: Any) -> Any:
    """Read a count that is written as a text, or as a number with a fraction of zero."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= DIGITS:
        return int(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _direction(value: str) -> str:
    if value.lower() != "right":
        raise ValueError(f"{value[:20]!r}, expected 'Right': texts are cut at their end, as in training")
    return value


Flag = Annotated[bool | None, Field(strict=True), BeforeValidator(_flag)]
Count = Annotated[int | None, Field(strict=True, ge=1), BeforeValidator(_count)]
Direction = Annotated[str, AfterValidator(_direction)] | None
Text = str | None  # null is a blank text
Document = str | dict[str, Any] | None
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


class CohereV2Request(CohereRequest):
    """What `/v2/rerank` takes; `return_documents` and `rank_fields` are of older clients."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [_RERANK]})

    max_chunks_per_doc: Count = Field(None, description="taken and left alone: documents are not chunked")
    priority: int | None = Field(None, description="taken and left alone")
    relevant_spans: RelevantSpans | None = Field(None, description="only `disabled`: none are found here")

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, body: Any) -> Any:
        """Name the first unknown key, and the known one that it is most like."""
        unknown = next((key for key in body if key not in cls.model_fields), None) if isinstance(body, dict) else None
        if unknown is not None:
            alike = difflib.get_close_matches(unknown[:100], cls.model_fields, 1)
            raise ValueError(f"{unknown[:100]}: unknown key" + (f"; did you mean `{alike[0]}`?" if alike else ""))
        return body


class V1Request(CohereRequest):
    """What `/v1/rerank` takes, from clients of Cohere's v1 and of Jina."""

    model_config = ConfigDict(json_schema_extra={"examples": [_RERANK | {"return_documents": True}]})


class TeiRerankRequest(BaseModel):
    """What `/rerank` takes: TEI's shape, or that of Elasticsearch's `hugging_face` service (`documents`)."""

    model_config = ConfigDict(json_schema_extra={"examples": [_TEXTS]})

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

    @model_validator(mode="after")
    def _one_list(self) -> Self:
        if (self.texts is None) == (self.documents is None):
            raise ValueError("expected either `texts` or `documents`")
        return self

    @property
    def candidates(self) -> list[str]:
        """The texts, whatever they are called."""
        return [text or "" for text in (self.texts if self.documents is None else self.documents) or []]


class TextPair(BaseModel):
    """A pair as OpenSearch's connector and transformers pipelines write it."""

    text: str
    text_pair: Text


def _form(inputs: Any) -> str | None:
    """Return which of the forms of `inputs` this is; None for something else."""
    if isinstance(inputs, dict):
        return "object"
    if not isinstance(inputs, list):
        return None
    first = inputs[0] if inputs else []
    return "pair" if isinstance(first, str) else "objects" if isinstance(first, dict) else "pairs"


Inputs = Annotated[
    Annotated[tuple[str, Text], Tag("pair")]
    | Annotated[Many[tuple[str, Text]], Tag("pairs")]
    | Annotated[TextPair, Tag("object")]
    | Annotated[Many[TextPair], Tag("objects")],
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
    truncation_direction: Direction = None


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

    Fields that an object does not have, and those that are null, are left out; a null document has no text. Raises
    InvalidRequestError for an object with none of the fields, and for a value that is no text.
    """
    if document is None or isinstance(document, str):
        return document or ""
    found = [document[field] for field in fields if field in document]
    texts = [value for value in found if value is not None]
    if not found or not all(isinstance(value, str) for value in texts):
        raise InvalidRequestError(f"documents[{place}]: expected a text, or an object with text under {list(fields)}")
    return "\n".join(texts)
