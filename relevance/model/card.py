"""The model card: `card.json` of a checkpoint, and part of a bundle's manifest.

It holds all that export and service need to score a pair exactly as training did. Knows no weights and no runtime.
"""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, NonNegativeInt, ValidationError, field_validator

from relevance.errors import CheckpointError
from relevance.evaluation.metrics import HISTOGRAM_BINS, Report, histogram, language_histograms
from relevance.evaluation.soundness import Advice, CosineGain
from relevance.languages import known_language, normalize_language
from relevance.model.heads import HeadSpec
from relevance.secrets import names_a_secret, without_secrets
from relevance.storage.files import whole_file
from relevance.storage.strict import StrictModel
from relevance.tasks import Task
from relevance.text.formatting import FORMAT_VERSION, OTHER_FORMAT, PairFormat
from relevance.text.prompt import Prompt

CARD_FILE = "card.json"
DEV_PAIRS_FILE = "dev_pairs.jsonl"
HEAD_FILE = "head.safetensors"
TOKENIZER_FILE = "tokenizer.json"

Histogram = Annotated[
    tuple[NonNegativeInt, ...], Field(min_length=HISTOGRAM_BINS, max_length=HISTOGRAM_BINS)
]  # rows in each twentieth of [0, 1]


Value = TypeVar("Value")


def sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return probabilities [N] in (0, 1) for logits [N], without overflow."""
    return 1 / (1 + np.exp(-np.clip(logits, -700, 700)))


class LanguageOffset(StrictModel):
    """What is added to the calibrated logits of a language, and what it was tuned on.

    `own_offset` is the one that the rows of the language alone would have: `offset` is nearer to 0 the fewer they are.
    """

    offset: float
    own_offset: float
    rows: NonNegativeInt
    source: str


class Calibration(StrictModel):
    """Scales and shifts logits before the sigmoid (Platt 1999). The default changes nothing."""

    scale: float = 1.0
    offset: float = 0.0
    by_language: dict[str, LanguageOffset] = Field(default_factory=dict, description="further offsets of languages")

    @field_validator("by_language")
    @classmethod
    def _by_code(cls, given: dict[str, LanguageOffset]) -> dict[str, LanguageOffset]:
        return _by_code(given, "offset")

    def logits(self, logits: ArrayLike, languages: Sequence[str] = ()) -> NDArray[np.float64]:
        """Return calibrated logits [N] for logits [N] of pairs in these languages [N].

        Languages may be left out where none has an offset. Else ValueError.
        """
        moved = np.asarray(logits, dtype=np.float64) * self.scale + self.offset
        if not self.by_language:
            return moved
        if len(languages) != len(moved):
            raise ValueError(f"{len(languages)} languages for {len(moved)} logits; expected one each")
        known = {tag: self.by_language.get(normalize_language(tag)) for tag in set(languages)}
        offsets = {tag: found.offset if found else 0.0 for tag, found in known.items()}
        return moved + np.array([offsets[tag] for tag in languages], dtype=np.float64)

    def scores(self, logits: ArrayLike, languages: Sequence[str] = ()) -> NDArray[np.float64]:
        """Return calibrated scores [N] in [0, 1] for logits [N] of pairs in these languages [N], as `logits` does."""
        return sigmoid(self.logits(logits, languages))


class ThresholdSource(StrictModel):
    """How the threshold of a language was found.

    `labelled` (older models): best F1 on the language's labelled rows. `matched`: it labels the share `positive_share`
    of the language's pairs 1, as the overall threshold does in the languages of training, and uses none of its labels.
    """

    method: Literal["labelled", "matched"]
    source: str
    rows: NonNegativeInt
    positive_share: float = Field(ge=0, le=1)


class PriorSummary(StrictModel):
    """What the category prior of a model was made from; the table is in `prior.json` (relevance.model.prior)."""

    strength: float
    folds: int
    paths: NonNegativeInt = Field(description="category paths in the table, parents included")
    rows: float = Field(description="weight of the training rows that it counts")


class ModelCard(StrictModel):
    """A fine-tuned model, in whatever format its weights are."""

    name: str = Field(min_length=1)
    task: Task
    format_version: int = FORMAT_VERSION
    format: PairFormat
    max_length: int = Field(gt=0, description="tokens a pair, special tokens included")
    pad_id: int = Field(ge=0)
    head: HeadSpec
    prompt: Prompt | None = Field(None, description="what a language model is asked of a pair; absent: no prompt")
    activation: Literal["sigmoid"] = "sigmoid"
    calibration: Calibration = Calibration()
    threshold: float = Field(ge=0, le=1, description="a score at or above it is labelled 1")
    language_thresholds: dict[str, float] = Field(default_factory=dict)
    threshold_sources: dict[str, ThresholdSource] = Field(
        default_factory=dict, description="how each of language_thresholds was found"
    )
    seen_languages: tuple[str, ...] = Field((), description="languages of training rows, translated rows left out")
    fine_tuned: bool = Field(True, description="false: only the start of the head saw training rows (0 epochs)")
    metrics: Report | None = None
    metrics_on: str = Field("unknown", description="the rows that metrics were measured on, and what was tuned on them")
    cosine_auc: float | None = Field(
        None, description="AUC on dev of the cosine of query and candidate in the base model, after layers were cut"
    )
    cosine_gains: dict[str, CosineGain] = Field(
        default_factory=dict,
        description="by language: dev AUC beside that of the cosine, and the paired difference",
    )
    findings: tuple[str, ...] = Field((), description="what relevance.evaluation.soundness found wrong with the labels")
    score_histogram: tuple[int, ...] = ()
    language_histograms: dict[str, Histogram] = Field(
        default_factory=dict, description="as score_histogram, of each language with enough dev rows"
    )
    dev_rows: dict[str, NonNegativeInt] = Field(
        default_factory=dict, description="rows of each language among those that the histograms count"
    )
    category_prior: PriorSummary | None = Field(None, description="absent: the model reads no category prior")
    base_model: str
    license: str = "unknown"
    recipe: dict[str, Any] = Field(default_factory=dict)
    source_commit: str = "unknown"
    created: str

    @field_validator("language_thresholds")
    @classmethod
    def _by_code(cls, given: dict[str, float]) -> dict[str, float]:
        return _by_code(given, "threshold")

    @property
    def rerank_advice(self) -> dict[str, Advice]:
        """By language with enough dev rows: whether re-ranking with this model beats the cosine of embeddings."""
        return {code: found.advice for code, found in self.cosine_gains.items()}

    def scores(self, logits: ArrayLike, languages: Sequence[str] = ()) -> NDArray[np.float64]:
        """Return scores [N] in [0, 1] for logits [N] of pairs in these languages [N]: calibration, then the sigmoid.

        ValueError where languages are left out and the calibration needs them.
        """
        return self.calibration.scores(logits, languages)

    def threshold_for(self, language: str) -> float:
        """Return the threshold of a language; the overall one if it has none of its own."""
        return self.language_thresholds.get(normalize_language(language), self.threshold)

    def thresholds(self, languages: Sequence[str]) -> NDArray[np.float64]:
        """Return the threshold [N] of each of the languages [N]."""
        found = {language: self.threshold_for(language) for language in set(languages)}
        return np.array([found[language] for language in languages], dtype=np.float64)

    def labels(self, scores: ArrayLike, languages: Sequence[str]) -> NDArray[np.bool_]:
        """Return the labels [N] of scores [N] in their languages [N]. Serving and evaluation both use this."""
        found: NDArray[np.bool_] = np.asarray(scores, dtype=np.float64) >= self.thresholds(languages)
        return found

    def save(self, folder: Path) -> None:
        """Write `card.json` into a checkpoint folder."""
        with whole_file(folder / CARD_FILE) as path:
            path.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read `card.json`. Raises CheckpointError if it is missing or of another version."""
        path = folder / CARD_FILE
        if not path.is_file():
            raise CheckpointError(
                f"checkpoint {folder}: no {CARD_FILE}; expected a folder written by `relevance train`"
            )
        try:
            raw = json.loads(path.read_bytes())
            found = raw.get("format_version") if isinstance(raw, dict) else None
            if isinstance(found, int) and found != FORMAT_VERSION:  # its parameters differ
                fault = f"format_version {found} is unknown; expected {FORMAT_VERSION}; {OTHER_FORMAT}"
                raise CheckpointError(f"checkpoint card {path}: {fault}")
            card = cls.model_validate(raw)
        except ValidationError as error:
            raise CheckpointError(f"checkpoint card {path}: {explain(error)}") from None
        except (ValueError, RecursionError) as error:
            raise CheckpointError(f"checkpoint card {path}: is no JSON ({error}); it is damaged") from None
        return card


def _by_code(given: dict[str, Value], what: str) -> dict[str, Value]:
    """Return values by language code for values by tag. ValueError for a tag that names no language, or one twice."""
    codes = {known_language(tag): value for tag, value in given.items()}
    if len(codes) < len(given):
        raise ValueError(f"the tags {', '.join(given)} name {len(codes)} languages; expected one {what} each")
    return codes


def score_reference(scores: ArrayLike, languages: Sequence[str]) -> dict[str, Any]:
    """Return the card's histograms of dev scores [N], of all rows and by language [N]."""
    return {
        "score_histogram": tuple(histogram(scores)),
        "language_histograms": language_histograms(scores, languages),
        "dev_rows": dict(sorted(Counter(languages).items())),
    }


def explain(error: ValidationError) -> str:
    """Return pydantic's errors on one line: field, expected value, given value unless it is a secret."""
    faults, found = [], error.errors(include_url=False)
    holders = {fault["loc"][:-1] for fault in found}
    for fault in found:
        if fault["type"] == "too_short" and fault["loc"] in holders:  # wrong values in it did not count
            continue
        where, message = ".".join(map(str, fault["loc"])), without_secrets(fault["msg"]).removeprefix("Value error, ")
        if fault["type"] == "value_error" and isinstance(fault["input"], dict):  # it names the values that do not fit
            faults.append(f"{where}: {message}" if where else message)
            continue
        value = json.dumps(fault["input"], ensure_ascii=False, default=str)
        shown = "a value that is not shown" if names_a_secret(f"{where} {value[:1000]}") else without_secrets(value)
        faults.append(f"{where or '(whole)'}: {message}, got {_cut(shown)}")
    return "; ".join(faults)


def _cut(text: str) -> str:
    return text if len(text) <= 80 else text[:77] + "..."
