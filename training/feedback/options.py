"""The options of `relevance data from-logs`."""

from enum import StrEnum
from typing import Self

from pydantic import Field, model_validator

from relevance.storage.strict import OptionsModel
from training.data.labels.clicks import FIT, BetaPrior
from training.data.labels.grades import Grades


class Shown(StrEnum):
    """Which candidates of a list count as shown to the user: one impression each."""

    EXAMINED = "examined"
    REPORTED = "reported"
    RETURNED = "returned"


class LogOptions(OptionsModel):
    """What clicks and judgements mean. ConfigError for an invalid value."""

    shown: Shown = Field(
        Shown.EXAMINED,
        description="impressions. examined: what `shown` events report; in a list without them, all down to its lowest "
        "click. reported: only lists with `shown` events count. returned: every candidate of every answer",
    )
    clicks: str = Field(
        FIT, description="the label of clicked rows is clicks / impressions, smoothed by a Beta prior: fit, or A:B"
    )
    grades: str | None = Field(
        None,
        description="grades of judgements that are no 0 and 1: a share of each, E=1,S=.7,C=.3,I=0, a range, 1:3, or a "
        "cut, '>=2.33'",
    )
    min_impressions: int = Field(
        1, ge=1, description="rows with fewer impressions, and no judgement, are left out. Higher: fewer, surer rows"
    )

    @model_validator(mode="after")
    def _parsed(self) -> Self:
        BetaPrior.parse(self.clicks)
        if self.grades is not None:
            Grades.parse(self.grades)
        return self
