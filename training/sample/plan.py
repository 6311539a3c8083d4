"""How many rows the sample has, in which languages and with which labels: its sizes and its imbalance.

Knows figures only; knows nothing of words, queries or files.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from relevance.errors import ConfigError
from relevance.tasks import Task

SPLITS = ("train", "dev", "test")
POSITIVE_SHARES: Mapping[Task, float] = MappingProxyType({Task.QC: 0.68, Task.QI: 0.62})
SMALLEST_SCALE, LARGEST_SCALE = 0.05, 10.0

_ROWS = {"train": 6000, "dev": 1000, "test": 1000}
_TRAIN_LANGUAGES = {
    Task.QC: {"en": 28, "es": 22, "fr": 20, "ko": 10, "pt": 10, "ja": 10},
    Task.QI: {"en": 26, "es": 20, "fr": 18, "ko": 10, "pt": 10, "ja": 9, "th": 7},
}
_HELD_OUT_LANGUAGES = {
    Task.QC: {"en": 14, "es": 12, "fr": 11, "ko": 7, "pt": 7, "ja": 7}
    | {"de": 7, "it": 7, "pl": 6, "ar": 6, "th": 6, "vi": 5, "id": 5},
    Task.QI: {"en": 14, "es": 12, "fr": 10, "ko": 7, "pt": 6, "ja": 6, "th": 5}
    | {"de": 7, "it": 7, "pl": 7, "ar": 7, "vi": 6, "id": 6},
}


@dataclass(frozen=True, slots=True)
class SampleSettings:
    """What a sample depends on besides its data files. `scale` multiplies the rows; flip rates are shares of rows.

    `train_flip_rate` is the share of flipped labels in train, `held_out_flip_rate` that in dev and test.
    ConfigError when a value is out of range.
    """

    seed: int = 0
    scale: float = 1.0
    train_flip_rate: float = 0.08
    held_out_flip_rate: float = 0.03

    def __post_init__(self) -> None:
        if not SMALLEST_SCALE <= self.scale <= LARGEST_SCALE:
            raise ConfigError(f"scale is {self.scale}; expected {SMALLEST_SCALE:g} to {LARGEST_SCALE:g}")
        for name in ("train_flip_rate", "held_out_flip_rate"):
            if not 0 <= getattr(self, name) < 0.5:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected at least 0 and below 0.5")

    def flip_rate(self, split: str) -> float:
        """Return the share of labels to flip in a split."""
        return self.train_flip_rate if split == "train" else self.held_out_flip_rate


def train_languages(task: Task) -> tuple[str, ...]:
    """Return the languages that train has; all others are in dev and test only."""
    return tuple(_TRAIN_LANGUAGES[task])


def rows_by_language(task: Task, split: str, scale: float) -> dict[str, int]:
    """Return the rows of a split by language; they sum to the split's size by largest remainders."""
    shares = (_TRAIN_LANGUAGES if split == "train" else _HELD_OUT_LANGUAGES)[task]
    total = round(_ROWS[split] * scale)
    exact = {language: total * share / sum(shares.values()) for language, share in shares.items()}
    rows = {language: math.floor(count) for language, count in exact.items()}
    by_remainder = sorted(exact, key=lambda language: rows[language] - exact[language])
    for language in by_remainder[: total - sum(rows.values())]:
        rows[language] += 1
    return rows
