"""The recipe of a whole pipeline: that of fine-tuning (`fitting.recipe`) with a section for each stage beside it.

Paths are relative to the working directory, as on the command line.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from relevance.errors import ConfigError
from relevance.languages import LanguageCode
from relevance.model.heads import HeadKind
from training.cleaning.options import CleaningOptions
from training.data.files.reading import ReadOptions
from training.fitting.evaluation.options import CalibrationOptions
from training.fitting.recipe import Recipe
from training.negatives.options import NegativeOptions
from training.selfvalidation.options import Action, SelfValidationOptions
from training.transfer.options import TransferOptions
from training.translation.options import TranslationOptions


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DataSection(ReadOptions):
    """The files, and how they are read. Without `dev` or `test`, those are split from the training rows."""

    train: tuple[Path, ...] = ()
    dev: tuple[Path, ...] = ()
    test: tuple[Path, ...] = ()
    languages: tuple[LanguageCode, ...] = Field((), description="train on rows of these languages only; all when empty")
    max_rows: int | None = Field(None, gt=1, description="train on so many rows, drawn by split.seed")
    skip_bad_rows: bool = Field(False, description="leave bad rows out; they go to files that a message names")

    @property
    def reading(self) -> ReadOptions:
        """How the files are read."""
        return ReadOptions(**{name: getattr(self, name) for name in ReadOptions.model_fields})

    def read_as(self, reading: ReadOptions) -> "DataSection":
        """Return the section with the options of a command line over its own."""
        return self.model_copy(update={name: value for name, value in reading if value not in (None, {})})


class SplitSection(_Section):
    """What is split from the training rows where no file is given. By query, so that none is in two parts."""

    dev: float = Field(0.1, gt=0, lt=1, description="share of the rows; chooses checkpoint, threshold and calibration")
    test: float = Field(0.1, ge=0, lt=1, description="share of the rows, for evaluation only; 0: evaluate on dev")
    held_out_languages: tuple[LanguageCode, ...] = Field((), description="languages that train must not see")
    seed: int = Field(0, ge=0, description="apart from the recipe's seed, so that runs of several seeds share a test")


class CleaningSection(CleaningOptions):
    """Training rows are cleaned; dev and test rows stay as they came, since what is served is not cleaned either."""

    enabled: bool = True


class TranslationSection(TranslationOptions):
    """Translation augmentation of the training rows."""

    enabled: bool = False
    backends: tuple[str, ...] = Field((), description="memory:FILE, ctranslate2:FOLDER, openai:MODEL@URL, in order")
    settings: dict[str, dict[str, Any]] = Field(default_factory=dict, description="further options by kind of backend")
    skip_bad_units: bool = Field(False, description="leave broken lines of memories out")

    @model_validator(mode="after")
    def _has_backend(self) -> Self:
        if self.enabled and not self.backends:
            raise ValueError("enabled without backends; expected one, as memory:FILE")
        return self


class NegativesSection(NegativeOptions):
    """Semantic negative sampling among the training rows."""

    enabled: bool = False
    vet: Path | None = Field(None, description="a checkpoint or bundle that drops false negatives, see vet_margin")


class FilteringSection(SelfValidationOptions):
    """Self-validation filtering of the training rows."""

    enabled: bool = False
    control: bool = Field(False, description="drop as many rows at random instead: what a filter has to beat")

    @model_validator(mode="after")
    def _control_drops(self) -> Self:
        if self.control and self.action is not Action.DROP:
            raise ValueError(f"control with action {self.action}: expected drop, the action that it is a control of")
        return self


class TransferSection(TransferOptions):
    """Rows in other languages that a teacher labels, added to the rows that are trained on; no stage judges them."""

    targets: tuple[LanguageCode, ...] = Field((), description="languages to write rows in")
    enabled: bool = False
    teacher: Path | None = Field(
        None, description="a checkpoint or bundle; absent: a model is trained first, on the rows without these"
    )
    memories: tuple[Path, ...] = Field((), description="translation memories or term bases: .jsonl, .tsv or .tmx")
    skip_bad_units: bool = Field(False, description="leave broken lines of memories out")

    @model_validator(mode="after")
    def _has_texts(self) -> Self:
        if self.enabled and not (self.targets and self.memories):
            raise ValueError("enabled without targets or memories; expected a language and a file at least")
        return self


class ExportSection(_Section):
    """The bundle."""

    enabled: bool = True
    kind: Literal["onnx", "safetensors"] = Field(
        "onnx", description="safetensors: for vLLM, of a model with a `stock` or `yes_no` head"
    )
    precision: Literal["fp32", "fp16", "bf16", "int8"] = "fp32"

    @model_validator(mode="after")
    def _has_the_precision(self) -> Self:
        other = {"onnx": "bf16", "safetensors": "int8"}[self.kind]
        if self.precision == other:
            raise ValueError(f"export.precision {other!r}: no bundle of kind {self.kind!r} has it")
        return self


class PipelineRecipe(Recipe):
    """A fine-tuning recipe with the stages before and after it."""

    model: Literal["crossencoder", "probe"] = Field(
        "crossencoder", description="probe: logistic regression over frozen embeddings, for quick looks; no bundle"
    )
    data: DataSection = DataSection()
    cleaning: CleaningSection = CleaningSection()
    split: SplitSection = SplitSection()
    translation: TranslationSection = TranslationSection()
    negatives: NegativesSection = NegativesSection()
    filtering: FilteringSection = FilteringSection()
    transfer: TransferSection = TransferSection()
    calibration: CalibrationOptions = CalibrationOptions()
    export: ExportSection = ExportSection()

    @model_validator(mode="after")
    def _exports_its_head(self) -> Self:
        """Find before training what `relevance export` would find after it."""
        for_vllm = self.export.enabled and self.export.kind == "safetensors" and self.model == "crossencoder"
        if for_vllm and self.head.kind not in (HeadKind.STOCK, HeadKind.YES_NO):
            kind = self.head.kind.value
            raise ValueError(f"export.kind 'safetensors': the head is {kind!r}, expected 'stock' or 'yes_no'")
        return self

    @model_validator(mode="after")
    def _has_teacher(self) -> Self:
        if self.transfer.enabled and self.transfer.teacher is None and self.model == "probe":
            raise ValueError("transfer.teacher: absent with model 'probe'; expected a checkpoint or a bundle")
        return self

    def fine_tuning(self) -> Recipe:
        """Return the part that fine-tuning depends on."""
        return Recipe.model_validate({name: getattr(self, name) for name in Recipe.model_fields})


def load_fine_tuning(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read the part of a recipe that fine-tuning depends on. ConfigError for an override of any other part.

    A recipe's file may hold the pipeline's sections too; given on the command line, they would do nothing unseen.
    """
    loaded = PipelineRecipe.load(path, overrides)
    for override in overrides:
        section = override.partition("=")[0].strip().partition(".")[0]
        if section not in Recipe.model_fields:
            raise ConfigError(f"override {override!r}: {section} is of `relevance pipeline run`; it does nothing here")
    return loaded.fine_tuning()
