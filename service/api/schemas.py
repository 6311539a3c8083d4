"""The requests and answers of the HTTP interface, as pydantic models; the OpenAPI page is made of them."""

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from relevance.languages import normalize_language
from relevance.tasks import UNKNOWN_LANGUAGE, Pair, Task
from service.api.list_type import Many

Language = Annotated[
    str,
    Field(
        max_length=100,
        description="language tag of the query, such as `ja` or `pt-BR`; region, script and case make no difference; "
        f"a tag of no known language counts as `{UNKNOWN_LANGUAGE}`",
    ),
]


class PairIn(BaseModel):
    """A query and one candidate."""

    model_config = ConfigDict(extra="forbid")

    query: str
    candidate: str
    language: Language | None = None


class ScoreRequest(BaseModel):
    """Pairs to score: one query with many candidates, or pairs spelled out. Exactly one of the two forms."""

    model_config = ConfigDict(extra="forbid")

    task: str = Field(
        description="`qc` (candidates are category paths), `qi` (item titles) or `rerank` (any documents)"
    )
    query: str | None = None
    candidates: Many[str] | None = None
    language: Language | None = None
    pairs: Many[PairIn] | None = None
    partial: bool = Field(
        False,
        strict=True,
        description="true: where the deadline is too close for all pairs, score as many of the first ones as can be, "
        "and answer with `unscored`; false: answer 504 instead",
    )

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if self.pairs is None:
            if self.query is None or self.candidates is None:
                raise ValueError("expected `query` and `candidates`, or `pairs`")
        elif self.query is not None or self.candidates is not None or self.language is not None:
            raise ValueError("expected either `query`, `candidates` and `language`, or `pairs` alone, not both")
        if not self.count:
            raise ValueError(f"`{'candidates' if self.pairs is None else 'pairs'}` is empty; expected at least one")
        return self

    @property
    def count(self) -> int:
        """How many pairs the request holds."""
        return len(self.candidates or self.pairs or ())

    def to_pairs(self) -> list[Pair]:
        """Return the pairs in the order of the request, their languages normalised."""
        if self.pairs is None:
            language = normalize_language(self.language)
            return [Pair(self.query or "", candidate, language) for candidate in self.candidates or ()]
        return [Pair(pair.query, pair.candidate, normalize_language(pair.language)) for pair in self.pairs]


SCORE_FIELDS = tuple({**ScoreRequest.model_fields, **PairIn.model_fields})

EXAMPLES: dict[str, Any] = {
    "candidates": {
        "summary": "One query, many candidates",
        "value": {
            "task": "qc",
            "query": "ワイヤレスイヤホン",
            "candidates": ["Consumer Electronics,Earphones & Headphones", "Home & Garden,Kitchen"],
            "language": "ja",
        },
    },
    "pairs": {
        "summary": "Pairs spelled out",
        "value": {
            "task": "qi",
            "pairs": [
                {"query": "running shoes", "candidate": "Men's Breathable Running Shoes, Size 42", "language": "en"},
                {"query": "zapatos", "candidate": "Stainless Steel Water Bottle 750 ml", "language": "es"},
            ],
        },
    },
}


class Score(BaseModel):
    """The answer for one pair."""

    score: float = Field(ge=0, le=1, description="how relevant, as a probability")
    label: int = Field(description="1 where the score is at or above the threshold of the pair's language, else 0")


class ModelVersion(BaseModel):
    """Which model gave the scores."""

    name: str
    version: str = Field(description="the first 12 digits of the bundle's digest")


class Usage(BaseModel):
    """What the request cost."""

    pairs: int
    tokens: int = Field(description="tokens that the model read, special tokens included, without padding")


class ScoreResponse(BaseModel):
    """Scores in the order of the request's candidates or pairs."""

    task: Task
    model: ModelVersion
    scores: list[Score | None] = Field(description="null for a pair of `unscored`")
    thresholds: dict[str, float] = Field(
        description=f"the threshold used for each language of the request (`{UNKNOWN_LANGUAGE}`: none was given)"
    )
    truncated: list[int] = Field(description="places of the pairs that were too long and cut, from 0")
    unscored: list[int] | None = Field(
        None,
        description="places of the pairs, from 0, for which the time was too short: the last ones; only with `partial`",
    )
    usage: Usage


class Health(BaseModel):
    """Whether the service lives, or is ready."""

    status: str


class Fault(BaseModel):
    """One thing wrong with a request."""

    where: str
    message: str


class Problem(BaseModel):
    """Problem details, RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    reason: str = Field(description="a word for programs, as `too_large`")
    request_id: str
    errors: list[Fault] | None = None
    message: str | None = Field(None, description="`detail`, on Cohere's routes")
    error: str | None = Field(None, description="`detail`, on TEI's routes and the Open Inference Protocol's")
    error_type: str | None = Field(None, description="TEI's word for the kind of error, on its routes")
