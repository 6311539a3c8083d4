"""A cascade: a small model scores every pair, and a larger one those again that the small one is not sure of.

Both are bundles of one task. The small model's logits are put on the scale of the large one's (`Scale`), where both say
the same of a pair's odds. A pair's distance is that logit minus the logit of the large model's threshold in the pair's
language. Distances inside the band are passed on to the large model, whose score counts. So all scores of a cascade are
on one scale and have one threshold in each language, the large model's. Knows no files, no runtime and no rows.

The rule of Viola and Jones (2001) and of Wang et al. 2011 ("A cascade ranking model"), for two stages and one band.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from relevance.model.card import ModelCard
from relevance.storage.strict import StrictModel

SMALL, LARGE = STAGES = ("small", "large")  # the folders of a cascade bundle, in the order in which they score

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

_LEAST_THRESHOLD = 1e-7  # thresholds of exactly 0 or 1 have no logit


class Scale(StrictModel):
    """Puts calibrated logits of the small model on the scale of the large one's: slope * logit + offset.

    From a logistic regression of the labels on either model's logits (Platt 1999): equal logits are equal odds.
    """

    slope: float = Field(gt=0)
    offset: float


class Band(StrictModel):
    """The distances that are passed on: from `-below` up to, not including, `above`."""

    below: float = Field(ge=0)
    above: float = Field(ge=0)

    def holds(self, distances: ArrayLike) -> Flags:
        """Return which distances [N] are passed on."""
        d = np.asarray(distances, dtype=np.float64)
        found: Flags = (d >= -self.below) & (d < self.above)
        return found


class StageF1(StrictModel):
    """F1 of the small model alone, of the large one alone and of the cascade, and the share of pairs passed on."""

    rows: int = Field(gt=0)
    small: float
    large: float
    cascade: float
    passed_on: float = Field(ge=0, le=1)

    @property
    def loss(self) -> float:
        """F1 of the large model less that of the cascade."""
        return self.large - self.cascade


class CascadeSummary(StrictModel):
    """What a cascade's manifest says of its stages: their versions, the band, and what the band was chosen by.

    `held_out` is measured on rows of other queries than those that chose its bands, five times over.
    """

    versions: dict[str, str] = Field(description="version of each stage's bundle: `small` and `large`")
    names: dict[str, str]
    scale: Scale
    band: Band
    max_f1_loss: float = Field(ge=0, description="loss of F1 against the large model that the band was chosen for")
    chosen_on: StageF1
    held_out: StageF1
    small_cost: float = Field(gt=0, description="time of the small model by that of the large one, on the same rows")

    @property
    def cost(self) -> float:
        """Time of the cascade by that of the large model alone, for pairs as those that the band was chosen on."""
        return self.small_cost + self.chosen_on.passed_on


@dataclass(frozen=True, slots=True)
class CascadeRule:
    """Which pairs are passed on, and what the logits of both stages are worth."""

    small: ModelCard
    large: ModelCard
    scale: Scale
    band: Band

    def distances(self, logits: ArrayLike, languages: Sequence[str]) -> Floats:
        """Return the distances [N] of the small model's logits [N] from the thresholds of these languages [N]."""
        return self._scaled(logits, languages) - _logits(self.large.thresholds(languages))

    def first(self, logits: ArrayLike, languages: Sequence[str]) -> tuple[NDArray[np.float32], Flags]:
        """Return the cascade's logits [N] by the small model's logits [N], and which pairs [N] are passed on."""
        passed = self.band.holds(self.distances(logits, languages))
        return self._scaled(logits, languages).astype(np.float32), passed

    def second(self, logits: ArrayLike, languages: Sequence[str]) -> NDArray[np.float32]:
        """Return the cascade's logits [N] by the large model's logits [N] of pairs that were passed on."""
        return self.large.calibration.logits(logits, languages).astype(np.float32)

    def worth(self, difference: float) -> float:
        """Return what a difference of the small model's own logits is on the cascade's scale."""
        return self.scale.slope * abs(self.small.calibration.scale) * difference

    def _scaled(self, logits: ArrayLike, languages: Sequence[str]) -> Floats:
        return self.scale.slope * self.small.calibration.logits(logits, languages) + self.scale.offset


def _logits(scores: Floats) -> Floats:
    s = np.clip(scores, _LEAST_THRESHOLD, 1 - _LEAST_THRESHOLD)
    found: Floats = np.log(s) - np.log1p(-s)
    return found
