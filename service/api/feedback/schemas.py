"""The request and the answer of `/v1/feedback`."""

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, StrictFloat, StrictInt, StrictStr, model_validator
from pydantic.config import JsonDict

from relevance.feedback import FeedbackType
from relevance.requestid import REQUEST_ID
from service.api.list_type import Many

Place = Annotated[int, Field(strict=True, ge=0, lt=2**31)]
Word = Annotated[str, Field(min_length=1, max_length=64)]
EXAMPLE: JsonDict = {
    "request_id": "search-81723",
    "events": [
        {"type": "shown", "index": 2, "position": 0},
        {"type": "click", "index": 2},
        {"type": "judgement", "index": 0, "grade": 0, "annotator": "a1"},
    ],
}


class FeedbackEventIn(BaseModel):
    """What a user or a judge did with one candidate."""

    model_config = ConfigDict(extra="forbid")

    type: FeedbackType = Field(description="`shown` to a user, `click`, or `judgement`")
    index: Place | None = Field(None, description="place of the candidate in the scored request, from 0")
    candidate: str | None = Field(None, description="the candidate's text as it was scored, in place of `index`")
    position: Place | None = Field(None, description="where the user saw it, from 0; absent: as the answer ranked it")
    grade: (
        Annotated[StrictInt, Field(ge=-1e6, le=1e6)]
        | Annotated[StrictFloat, Field(ge=-1e6, le=1e6)]
        | Annotated[StrictStr, Field(min_length=1, max_length=64)]
        | None
    ) = Field(None, description="of a judgement: a number or a word, as the judges' scale has it")
    annotator: Word | None = Field(None, description="who judged; a later judgement of the same one replaces this one")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.index is None) == (self.candidate is None):
            raise ValueError("expected either `index` or `candidate`")
        if (self.grade is not None) != (self.type is FeedbackType.JUDGEMENT):
            raise ValueError("expected a `grade` with type `judgement`, and with no other")
        if self.annotator is not None and self.type is not FeedbackType.JUDGEMENT:
            raise ValueError("expected `annotator` with type `judgement` only")
        return self


class FeedbackRequest(BaseModel):
    """Events on the candidates of one scored request."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [EXAMPLE]})

    request_id: str = Field(
        pattern=rf"^{REQUEST_ID.pattern}$", description="`X-Request-Id` of the scored request, as its answer had it"
    )
    query: str | None = Field(None, description="the query as it was scored, where requests of this id have several")
    events: Many[FeedbackEventIn] = Field(min_length=1)


class FeedbackResponse(BaseModel):
    """What became of the events."""

    logged: int = Field(description="events that were taken for the log: all of them, or 0 where not sampled")
    sampled: bool = Field(description="whether the request is in the logged share (`feedback_share`)")
