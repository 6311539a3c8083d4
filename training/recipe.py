"""The recipe of one fine-tuning run: a TOML file read into pydantic models. Unknown keys are errors."""

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from relevance.card import explain
from relevance.errors import ConfigError
from relevance.formatting import PairFormat
from relevance.heads import HeadKind
from relevance.tasks import Task


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class EncoderSection(_Section):
    """What is done to the base model before fine-tuning."""

    layers: int | None = Field(None, gt=0, description="keep the first N layers; all when absent")
    trim_vocabulary: bool = Field(False, description="keep only the tokens that the training and dev texts need")
    trim_scripts: tuple[str, ...] = Field(
        (), description="with trim_vocabulary: keep the single characters of these scripts too"
    )
    whole_scripts: bool = Field(False, description="of trim_scripts keep every token, not single characters only")
    freeze_word_embeddings: bool = Field(True, description="leave the word embeddings as they are")

    @model_validator(mode="after")
    def _scripts_need_trimming(self) -> Self:
        if (self.trim_scripts or self.whole_scripts) and not self.trim_vocabulary:
            raise ValueError("trim_scripts and whole_scripts need trim_vocabulary = true")
        return self


class HeadSection(_Section):
    """How hidden states become a logit; see relevance.heads."""

    kind: HeadKind = HeadKind.PAIRED
    width: int = Field(64, gt=0)
    dropout: float = Field(0.1, ge=0, lt=1)


class TrainingSection(_Section):
    """The optimiser and its schedule."""

    epochs: float = Field(1.0, gt=0)
    batch_size: int = Field(32, gt=0)
    max_length: int = Field(64, gt=4, description="tokens a pair; longer ones are cut, longest text first")
    learning_rate: float = Field(3e-5, gt=0)
    head_learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    warmup_share: float = Field(0.1, ge=0, lt=1, description="share of the steps over which the rate rises")
    label_smoothing: float = Field(0.0, ge=0, lt=0.5)
    evaluations: int = Field(4, gt=0, description="how often the dev set is scored, evenly over the run")
    patience: int = Field(0, ge=0, description="stop after so many evaluations without a better dev AUC; 0: never")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="auto: bf16 on a GPU that has it, else fp16 on a GPU, fp32 on CPU"
    )


class Recipe(_Section):
    """One fine-tuning run."""

    name: str = Field(min_length=1)
    task: Task
    base_model: str = "packaged:multilingual-e5-small"
    seed: int = Field(0, ge=0)
    encoder: EncoderSection = EncoderSection()
    format: PairFormat = PairFormat()
    head: HeadSection = HeadSection()
    training: TrainingSection = TrainingSection()

    @classmethod
    def load(cls, path: Path, overrides: Sequence[str] = ()) -> Self:
        """Read a TOML recipe and apply `overrides` like `training.epochs=2`. Raises ConfigError naming every fault."""
        try:
            content = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(f"recipe {path}: {error.strerror}; expected a TOML file") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"recipe {path}: {error}; expected TOML") from None
        for override in overrides:
            _apply(content, override)
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            raise ConfigError(f"recipe {path}: {explain(error)}") from None


def _apply(content: dict[str, Any], override: str) -> None:
    """Set one dotted key to a TOML value; what is no TOML value is taken as a string."""
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"override {override!r}: expected KEY=VALUE, as in training.epochs=2")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    *sections, last = key.strip().split(".")
    for section in sections:
        content = content.setdefault(section, {})
        if not isinstance(content, dict):
            raise ConfigError(f"override {override!r}: {section} is no section of a recipe")
    content[last] = value
