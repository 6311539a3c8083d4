"""The options of translation in a recipe, with the reasons for their defaults."""

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from relevance.languages import LanguageCode
from relevance.storage.strict import StrictModel
from training.data.files.reading import AS_IT_COMES, ReadOptions

SourcePolicy = Literal["all", "one", "most_frequent", "proportional"]
DEFAULT_COPIES = 0.1  # of the real queries in the memory 9 % are brand names alone


class GateOptions(StrictModel):
    """Which gates are on, and their limits. `false` switches a gate off, and so does null for a gate with a limit."""

    digits: bool = Field(
        True, description="the same numbers in the same order, however written; those with a unit in any order"
    )
    units: bool = Field(True, description="a unit behind a number comes back, translated or not, and none is added")
    model_numbers: bool = Field(True, description="words of letters and digits come back")
    brands: bool = Field(True, description="Latin words of other-script queries, and words like iPhone, come back")
    script: bool = Field(True, description="letters of the target language's script only, Latin aside")
    language: bool = Field(True, description="not clearly another language, by lingua (must be installed)")
    length_ratio: float | None = Field(3.0, gt=1, description="longest and shortest, by letters weighted by script")
    copy_through: float | None = Field(
        DEFAULT_COPIES,
        ge=0,
        le=1,
        description="largest share of copies among the rows made of a language (brand names stay as they are); copies "
        "that are clearly not in the target language are rejected; false: any number of copies",
    )
    similarity: float | None = Field(
        None,
        ge=-1,
        le=1,
        description="least centred cosine of source and translation; needs an encoder; off, since all that 0 rejected "
        "of a clean memory were good",
    )
    round_trip: float | None = Field(
        None, gt=0, le=1, description="least bigram F1 of source and back-translation; off, since it doubles the cost"
    )

    @field_validator("length_ratio", "similarity", "round_trip", "copy_through", mode="before")
    @classmethod
    def _off(cls, value: object) -> object:
        return None if value is False else value  # TOML has no null

    @field_validator("copy_through", mode="before")
    @classmethod
    def _on(cls, value: object) -> object:
        return DEFAULT_COPIES if value is True else value


class TranslationOptions(StrictModel):
    """What to make. Defaults: the languages that dev has and training lacks, every row, classes as they are."""

    targets: tuple[LanguageCode, ...] = Field(
        (), description="a language to translate into; none: those that dev has and training lacks"
    )
    rows_per_language: int | None = Field(None, gt=0, description="rows to make a language; absent: all possible")
    sources: SourcePolicy = Field(
        "proportional",
        description="proportional: languages by their share of rows, as they come; all: an equal share each, against "
        "the weight of one language; most_frequent: only the largest; one: only source_language",
    )
    source_language: LanguageCode | None = Field(None, description="the language to translate from, with sources = one")
    positive_share: float | None = Field(None, gt=0, lt=1, description="share of positives; absent: as in the source")
    seed: int = Field(0, ge=0, description="seed of the choice of rows")
    at_budget: Literal["fail", "keep"] = Field(
        "fail",
        description="when a budget is spent; keep: write what there is; fail: no output, so that a dataset is never "
        "smaller unseen",
    )
    gates: GateOptions = GateOptions()

    @model_validator(mode="after")
    def _source_named(self) -> "TranslationOptions":
        if (self.sources == "one") != (self.source_language is not None):
            raise ValueError("source_language and sources = 'one' go together; expected both or neither")
        return self


class TranslationSources(StrictModel):
    """The backends, the rows that must be kept out, and the files beside the output."""

    backends: tuple[str, ...] = Field(
        description="memory:FILE, ctranslate2:FOLDER or openai:MODEL@URL; repeat: the first that can translate"
    )
    settings: tuple[str, ...] = Field((), description="openai.FIELD=VALUE and so on; repeat")
    like: Path | None = Field(
        None,
        description="pairs that are kept out; without a target, translate into their languages",
    )
    keep_out: tuple[Path, ...] = Field(
        (), description="dev or test pairs that must not get into training; repeat; those beside the file always are"
    )
    cache: Path | None = Field(
        None, description="translations on disk; absent: beside the output, its name with .translations.sqlite"
    )
    report: Path | None = Field(None, description="write the report to this file, as JSON")
    rejected: Path | None = Field(None, description="write rejected translations; the name says the format")
    retry_failed: bool = Field(False, description="ask again for texts that had no translation")
    skip_bad_units: bool = Field(False, description="leave broken lines of a memory out")
    reading: ReadOptions = Field(AS_IT_COMES, description="how files of rows are read")

    @property
    def memories(self) -> list[Path]:
        """The files of the backends that are memories."""
        names = [name.removeprefix("memory:") for name in self.backends if name.startswith("memory:")]
        return [Path(part) for name in names for part in name.split(",")]
