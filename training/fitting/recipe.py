"""The recipe of one fine-tuning run: a TOML file that is read into pydantic models. Unknown keys are errors."""

import tomllib
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, Field, ValidationError, model_validator

from relevance.errors import ConfigError
from relevance.model.card import explain
from relevance.model.heads import HeadKind
from relevance.storage.strict import OptionsModel
from relevance.tasks import Task
from relevance.text.formatting import PairFormat
from relevance.text.prompt import Prompt
from training.models.options import HeadOptions, LoraOptions, PromptOptions


class EncoderSection(OptionsModel):
    """What is done to the base model before fine-tuning."""

    layers: int | None = Field(None, gt=0, description="keep the first N layers; all when absent")
    trim_vocabulary: bool = Field(False, description="keep only the tokens that the training texts need")
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


class TrainingSection(OptionsModel):
    """The optimiser and its schedule."""

    epochs: float = Field(1.0, ge=0)
    batch_size: int = Field(32, gt=0)
    micro_batch_size: int = Field(
        0, ge=0, description="most pairs computed at once; the gradients of a batch are added up; 0: the whole batch"
    )
    processes: int = Field(
        1, ge=0, description="processes that share each batch, one a GPU; 0: as many as there are GPUs"
    )
    gradient_checkpointing: bool = Field(
        False, description="compute each layer twice in place of keeping its activations: less memory, a third slower"
    )
    max_length: int = Field(64, gt=4, description="tokens a pair; longer ones are cut, longest text first")
    learning_rate: float = Field(3e-5, gt=0)
    head_learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    warmup_share: float = Field(0.1, ge=0, lt=1, description="share of the steps over which the rate rises")
    copies_as_one: bool = Field(
        False, description="a row, its translations and its negatives together weigh as much as one row"
    )
    lambdarank_weight: float = Field(
        0.0, ge=0, description="weight of LambdaRank, which compares the rows of a query, beside the cross-entropy"
    )
    teacher: Path | None = Field(
        None, description="file of id, and logit or score, of all training rows: margin-MSE to them within queries"
    )
    teacher_weight: float = Field(1.0, gt=0, description="weight of the margin-MSE in the loss")
    evaluations: int = Field(4, gt=0, description="how often the dev set is scored, evenly over the run")
    patience: int = Field(0, ge=0, description="stop after so many evaluations without a better dev AUC; 0: never")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="auto: bf16 on a GPU or CPU that multiplies it, else fp16 on a GPU, fp32 on a CPU"
    )

    @model_validator(mode="after")
    def _queries_stay_whole(self) -> Self:
        if self.micro_batch_size and self.within_queries:
            raise ValueError("micro_batch_size beside a loss within queries, which needs the whole batch; expected 0")
        if self.processes != 1 and self.within_queries:
            raise ValueError(
                f"processes = {self.processes} beside a loss within queries, which needs the whole batch; expected 1"
            )
        return self

    @model_validator(mode="after")
    def _processes_have_rows(self) -> Self:
        if self.processes > self.batch_size:
            raise ValueError(f"processes = {self.processes}: more than batch_size = {self.batch_size}")
        return self

    @property
    def within_queries(self) -> bool:
        """Whether a loss compares rows of a query, so that batches must hold them together."""
        return self.lambdarank_weight > 0 or self.teacher is not None


class Recipe(OptionsModel):
    """One fine-tuning run."""

    name: str = Field(min_length=1)
    task: Task
    base_model: str = "packaged:multilingual-e5-small"
    seed: int = Field(0, ge=0)
    encoder: EncoderSection = EncoderSection()
    format: PairFormat = PairFormat()
    head: HeadOptions = HeadOptions()
    prompt: PromptOptions = PromptOptions()
    lora: LoraOptions = LoraOptions()
    training: TrainingSection = TrainingSection()

    @property
    def decided_head(self) -> HeadOptions:
        """The head's options, `overlap` and `prior` decided by task and kind where they are absent."""
        given = self.head.model_dump(exclude_none=True)
        return HeadOptions.model_validate({"overlap": self._has_features, "prior": self._can_have_prior} | given)

    @property
    def decided_prompt(self) -> Prompt | None:
        """The prompt of a head that reads one; else None."""
        return self.prompt.decided(self.task) if self.head.kind is HeadKind.YES_NO else None

    @property
    def _has_features(self) -> bool:
        return self.head.kind.reads_features

    @property
    def _can_have_prior(self) -> bool:
        return self.task is Task.QC and self._has_features

    @model_validator(mode="after")
    def _adapters_fit(self) -> Self:
        if not self.lora.rank and self.lora != LoraOptions():
            raise ValueError("[lora] without lora.rank; expected a rank, as 32")
        if self.lora.rank and not self.encoder.freeze_word_embeddings:
            raise ValueError("encoder.freeze_word_embeddings = false beside [lora], which freezes all weights")
        return self

    @model_validator(mode="after")
    def _head_fits(self) -> Self:
        if self.head.overlap and not self._has_features:
            raise ValueError(f"head.overlap = true: the head is {self.head.kind}; expected mean, paired or kernel")
        if self.head.prior and not self._can_have_prior:
            reason = "items have no categories" if self._has_features else f"the head is {self.head.kind}"
            raise ValueError(f"head.prior = true: {reason}; expected task qc and head.kind mean, paired or kernel")
        if self.head.kind is HeadKind.KERNEL and (self.training.epochs or self.lora.rank):
            given = f"training.epochs = {self.training.epochs:g}, lora.rank = {self.lora.rank}"
            raise ValueError(
                f"head.kind = kernel beside {given}: a kernel head is solved for and the encoder stays as it is; "
                "expected 0 of both, or head.kind = paired"
            )
        if self.prompt != PromptOptions() and self.head.kind is not HeadKind.YES_NO:
            raise ValueError(f"[prompt]: a {self.head.kind} head reads no prompt; expected head.kind yes_no")
        _ = self.decided_prompt  # raises ValueError for a text without its places
        return self

    @classmethod
    def load(cls, path: Path, overrides: Sequence[str] = ()) -> Self:
        """Read a TOML recipe and apply `overrides` like `training.epochs=2`. Raises ConfigError naming every fault."""
        try:
            content = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(f"recipe {path}: {error.strerror}; expected a TOML file") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"recipe {path}: {error}; expected TOML") from None
        given: dict[str, str] = {}
        for override in overrides:
            key, value = _parts(override)
            if given.setdefault(key, value) != value:
                raise ConfigError(f"{key}: given twice, as {given[key]} and as {value}; expected it once")
            _apply(content, key, value)
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            raise ConfigError(f"recipe {path}: {explain(error)}{did_you_mean(cls, error)}") from None


def recipe_keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Yield the dotted name of every field of a recipe, sections included."""
    for name, field in model.model_fields.items():
        yield f"{prefix}{name}"
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from recipe_keys(field.annotation, f"{prefix}{name}.")


def did_you_mean(model: type[BaseModel], error: ValidationError) -> str:
    """Return suggestions for the unknown keys of an error, or an empty text. A key may stand in another section."""
    last_parts = {name: name.rpartition(".")[2] for name in recipe_keys(model)}
    found = []
    for fault in error.errors(include_url=False):
        if fault["type"] == "extra_forbidden":
            key = ".".join(map(str, fault["loc"]))
            last = key.rpartition(".")[2]
            near = (
                [name for name, end in last_parts.items() if end == last]
                or get_close_matches(key, last_parts, n=1, cutoff=0.7)
                or [name for name, end in last_parts.items() if get_close_matches(last, [end])]
            )
            found += [f"; did you mean {' or '.join(near[:3])} in place of {key}?"] if near else []
    return "".join(found)


def _parts(override: str) -> tuple[str, str]:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"override {override!r}: expected KEY=VALUE, as in training.epochs=2")
    return key.strip(), text.strip()


def _apply(content: dict[str, Any], key: str, text: str) -> None:
    """Set one dotted key to a TOML value; a text that is no TOML value is taken as a string."""
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *sections, last = key.split(".")
    for section in sections:
        content = content.setdefault(section, {})
        if not isinstance(content, dict):
            raise ConfigError(f"override {key}={text}: {section} is no section of a recipe")
    content[last] = value
