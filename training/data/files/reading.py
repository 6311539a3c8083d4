"""Options of reading a file of rows: column names, encoding, delimiter, quotes, grades, clicks."""

from functools import cached_property
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from relevance.errors import ConfigError
from training.data.files.lines import checked_encoding
from training.data.labels.clicks import BetaPrior
from training.data.labels.grades import Grades

_TAB = ("\\t", "tab", "\t")


class ReadOptions(BaseModel):
    """How to read a file of rows. What is absent is detected in the file. ConfigError for an invalid value."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    columns: dict[str, str] = Field(
        default_factory=dict,
        description="NAME=FIELD: read a column of the file as a field; repeat",
        examples=["search_term=origin_query"],
    )
    encoding: str | None = Field(
        None, description="of text files, as latin-1; absent: UTF-8, or what a byte order mark says"
    )
    delimiter: str | None = Field(None, description="of CSV and TSV, as ';' or tab; absent: found in the header")
    quotes: bool | None = Field(None, description="cells may stand in quotes; absent: in CSV yes, in TSV no")
    grades: str | None = Field(
        None,
        description="labels that are no 0 and 1: a share of each, E=1,S=.7,C=.3,I=0, a range, 1:3, or a cut, '>=2.33'",
    )
    clicks: str | None = Field(
        None,
        description="the label is clicks / impressions (columns of a file), smoothed by a Beta prior: fit, or A:B",
    )

    @field_validator("encoding")
    @classmethod
    def _known(cls, encoding: str | None) -> str | None:
        return None if encoding is None else checked_encoding(encoding)

    @field_validator("delimiter")
    @classmethod
    def _one_character(cls, delimiter: str | None) -> str | None:
        if delimiter in _TAB:
            return "\t"
        if delimiter is not None and (len(delimiter) != 1 or delimiter in '"\r\n'):
            raise ConfigError(f"--delimiter {delimiter!r}: expected one character, or tab")
        return delimiter

    @field_validator("grades")
    @classmethod
    def _parsed(cls, grades: str | None) -> str | None:
        if grades is not None:
            Grades.parse(grades)
        return grades

    @field_validator("clicks")
    @classmethod
    def _prior(cls, clicks: str | None) -> str | None:
        if clicks is not None:
            BetaPrior.parse(clicks)
        return clicks

    @model_validator(mode="after")
    def _one_kind_of_label(self) -> Self:
        if self.grades is not None and self.clicks is not None:
            raise ConfigError("--grades and --clicks: both say what the label is; expected one of them")
        return self

    @cached_property
    def labels(self) -> Grades | None:
        """The labels of the grades; None where labels are 0 and 1."""
        return None if self.grades is None else Grades.parse(self.grades)


AS_IT_COMES = ReadOptions()
