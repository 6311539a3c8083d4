"""The options of self-validation, with the reasons for their defaults."""

from enum import StrEnum
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator


class Flag(StrEnum):
    """A rule that flags rows; see training.selfvalidation.flags."""

    ADAPTIVE = "adaptive"
    CONTRADICTION = "contradiction"
    BOUNDARY = "boundary"
    CONFIDENT = "confident"


class Action(StrEnum):
    """What is done with flagged rows; `soften` changes the target of every row."""

    DROP = "drop"
    RELABEL = "relabel"
    WEIGHT = "weight"
    SOFTEN = "soften"
    REVIEW = "review"


class Prune(StrEnum):
    """Which rows confident learning flags: those off the diagonal, or the worst of each class by its noise rate."""

    NOISE_RATE = "noise_rate"
    OFF_DIAGONAL = "off_diagonal"


class Judge(StrEnum):
    """What kind of model judges labels: the recipe's own kind, or the probe over frozen embeddings."""

    CROSSENCODER = "crossencoder"
    PROBE = "probe"


class FilterModel(BaseModel):
    """One judge: its kind, its seed, and what its recipe sets differently (`{"training": {"epochs": 1}}`)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    judge: Judge = Field(
        Judge.PROBE, description="probe: trains in seconds, and judged the sample as well (benchmarks/sample_noise)"
    )
    seed: int = Field(0, ge=0)
    settings: dict[str, Any] = Field(default_factory=dict, description="of a cross-encoder; a probe has none")

    @model_validator(mode="after")
    def _settings_count(self) -> Self:
        if self.judge is Judge.PROBE and self.settings:
            raise ValueError("settings with judge probe, which has none; expected judge crossencoder")
        return self


class SelfValidationOptions(BaseModel):
    """How rows are judged and what follows. The same options, recipe and rows give the same result."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    folds: int = Field(5, ge=2, description="more: each model sees more rows, and the stage takes longer")
    dev_share: float = Field(0.1, gt=0, lt=0.5, description="of a fold's training rows, kept to choose its checkpoint")
    seed: int = Field(0, ge=0, description="of the folds, their dev parts and the random control")
    rounds: int = Field(1, ge=1, description="each judges anew, in other folds, what the one before left")
    methods: tuple[Flag, ...] = Field(
        (Flag.ADAPTIVE,),
        min_length=1,
        description="a row is flagged by any of them. adaptive: contradiction where judges rank the labels well, which "
        "flags most surely; else confident learning, since scores of unsure judges contradict next to nothing",
    )
    sharp_auc: float = Field(
        0.8, ge=0.5, le=1, description="of adaptive: the judges' AUC from which contradiction is taken"
    )
    action: Action = Action.DROP
    threshold: float | None = Field(
        0.5, gt=0, lt=1, description="of contradictions and band; tuned: each fold's own, which leans to yes"
    )
    margin: float = Field(
        0.17, ge=0, lt=1, description="how far beyond the threshold a contradiction lies; higher: fewer, surer flags"
    )
    band: float = Field(0.05, ge=0, lt=1, description="how far from the threshold the boundary band reaches")
    prune: Prune = Field(
        Prune.OFF_DIAGONAL,
        description="noise_rate flags as many rows as are estimated to be wrong: too many where the judges are weak",
    )
    relabel_confidence: float = Field(
        0.8,
        gt=0.5,
        le=1,
        description="every kind of judge (the mean of its models) must give the other label at least this probability",
    )
    min_weight: float = Field(0.1, gt=0, le=1, description="down-weighting goes no lower")
    mix: float = Field(
        0.3,
        gt=0,
        lt=1,
        description="of soften: the weight of the judges in a row's label_share; the row's label, as one vote, has the "
        "rest. Above 0.5 sure judges change labels",
    )
    worst_share: float = Field(1.0, gt=0, le=1, description="flag at most this share of the rows, worst first")
    max_share: float = Field(
        0.1,
        gt=0,
        le=1,
        description="drop, relabel or down-weight at most this share of the rows over all rounds, the worst first; the "
        "report says how many flagged rows were spared",
    )
    least_auc: float = Field(
        0.6,
        ge=0,
        le=1,
        description="refuse to act where the judges' AUC out of fold is below; at .55, 17 % of flags were right",
    )
    models: tuple[FilterModel, ...] = Field((FilterModel(),), min_length=1, description="their scores are averaged")
    settings: dict[str, Any] = Field(
        default_factory=dict, description="what all models set over the recipe: judges may be cheaper than the judged"
    )

    @field_validator("threshold", mode="before")
    @classmethod
    def _tuned(cls, value: object) -> object:
        return None if value == "tuned" else value  # TOML has no null

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for given in (self.settings, *(model.settings for model in self.models)):
            if own := sorted({"name", "seed", "task"} & given.keys()):
                raise ValueError(f"settings hold {own[0]}; expected it at the models (seed) or in the recipe")
        if set(self.settings) - {"base_model"} and all(model.judge is Judge.PROBE for model in self.models):
            raise ValueError("settings with probes, which read base_model alone; expected judge crossencoder")
        if self.action is Action.RELABEL and len({model.judge for model in self.models}) < 2:
            raise ValueError(
                "action relabel needs judges of two kinds or more that agree, since judges of one kind share mistakes; "
                f"expected models of at least two of {', '.join(Judge)}"
            )
        if len({model.model_dump_json() for model in self.models}) < len(self.models):
            raise ValueError("two models are the same; expected another seed or other settings for each")
        if self.rounds > 1 and self.action not in (Action.DROP, Action.RELABEL):
            raise ValueError(f"{self.rounds} rounds with action {self.action}: the rows stay; expected drop or relabel")
        return self
