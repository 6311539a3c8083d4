"""The category prior: how often the category of a pair, its parent and its top level fit the queries of a log.

Three numbers that a QC model reads beside the tokens (relevance.model.heads). Target encoding with smoothing by
hierarchy (Micci-Barreca 2001): the rate of a path is shrunk to the rate of its parent, the parent's to its own
parent's, and the top level's to the rate of all rows. Here the weight of the evidence is n / (n + strength), the
parent is the path without its last level, and the number that comes out is a difference of log-odds. Knows no models.
"""

import functools
import itertools
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from relevance.storage.strict import StrictModel

PRIOR_FILE = "prior.json"
STRENGTH = 20.0  # training chooses one by its rows (docs/bundle.md)
BREAK = "\n"  # joins the levels of a key; formatted levels hold none

PriorFeatures = tuple[float, ...]  # of leaf, parent and top level; () where a model has no prior
FEATURES = 3
NO_EVIDENCE: PriorFeatures = (0.0,) * FEATURES


class CategoryPrior(StrictModel):
    """A table of category paths and all their parents, with the weight of their positive rows and of all their rows."""

    strength: float = Field(gt=0, allow_inf_nan=False, description="rows that the rate of the parent counts for")
    folds: int = Field(gt=1, description="folds by which training rows were kept out of their own features")
    counts: dict[str, tuple[float, float]] = Field(
        description="path, levels casefolded and joined by a line break -> positive rows, rows, weighted; '': all rows"
    )

    @classmethod
    def of(
        cls,
        paths: Iterable[Sequence[str]],
        shares: Iterable[float],
        weights: Iterable[float],
        folds: int,
        strength: float = STRENGTH,
    ) -> Self:
        """Return the table of rows [N]: their levels, top first, their share of label 1 and their weight."""
        counts = {"": (0.0, 0.0)}
        for levels, share, weight in zip(paths, shares, weights, strict=True):
            for key in dict.fromkeys(("", *_keys(levels))):
                positives, rows = counts.get(key, (0.0, 0.0))
                counts[key] = positives + weight * share, rows + weight
        return cls(strength=strength, folds=folds, counts=counts)

    @model_validator(mode="after")
    def _is_a_tree(self) -> Self:
        if "" not in self.counts:
            raise ValueError("counts: no entry ''; expected the counts of all rows")
        for key, (positives, rows) in self.counts.items():
            if not 0 <= positives <= rows * (1 + 1e-9) < math.inf:
                raise ValueError(
                    f"counts of {key!r}: {positives} positive of {rows} rows; expected 0 <= positive <= rows"
                )
            if _parent(key) not in self.counts:
                raise ValueError(f"counts: {key!r} without its parent {_parent(key)!r}; expected both")
        return self

    @property
    def paths(self) -> int:
        """How many paths the table has, parents included."""
        return len(self.counts) - 1

    @property
    def rows(self) -> float:
        """The weight of all rows that the table was made from."""
        return self.counts[""][1]

    def save(self, folder: Path) -> None:
        """Write `prior.json` into a checkpoint folder."""
        (folder / PRIOR_FILE).write_text(self.model_dump_json() + "\n", encoding="utf-8")

    def features(self, levels: Sequence[str]) -> PriorFeatures:
        """Return the log-odds of leaf, parent and top level, each minus the log-odds of all rows.

        A path that is not in the table has the number of its longest known parent; 0 where none is known. The parent
        of a top level is all rows, so 0.
        """
        if not levels:
            return NO_EVIDENCE
        found = [0.0]
        for key in _keys(levels):
            found.append(self._log_odds.get(key, found[-1]))
        return found[-1], found[-2], found[1]

    def knows(self, levels: Sequence[str]) -> bool:
        """Return whether the table has the top level, so that the features say something."""
        return bool(levels) and levels[0].casefold() in self._log_odds

    @functools.cached_property
    def _log_odds(self) -> dict[str, float]:
        positives, rows = self.counts[""]
        rates = {"": (positives + 1) / (rows + 2)}
        for key in sorted(self.counts.keys() - {""}, key=lambda key: key.count(BREAK)):
            positives, rows = self.counts[key]
            rates[key] = (positives + self.strength * rates[_parent(key)]) / (rows + self.strength)
        overall = _logit(rates.pop(""))
        return {key: _logit(rate) - overall for key, rate in rates.items()}


def _keys(levels: Sequence[str]) -> Iterable[str]:
    """Yield the key of each parent of a path, top level first, then the key of the path."""
    return itertools.accumulate((level.casefold() for level in levels), lambda above, level: f"{above}{BREAK}{level}")


def _parent(key: str) -> str:
    return key.rpartition(BREAK)[0]


def _logit(rate: float) -> float:
    return math.log(rate / (1 - rate))
