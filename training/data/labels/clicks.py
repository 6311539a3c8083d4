"""Click counts as targets: `clicks` of `impressions` become a smoothed click-through rate with a weight.

The rate is the mean of the posterior under a Beta(a, b) prior: (clicks + a) / (impressions + a + b). The prior is
given, or fitted to all rows of the file by the likelihood of the beta-binomial distribution (empirical Bayes). The
weight is the share of the data in that mean, impressions / (impressions + a + b): rows that were shown seldom count
little.

Rates are far below one half. So the label of a row says whether its rate reaches the mean of the prior, a / (a + b),
which `label_cut` keeps for the votes (training.data.votes).
"""

import logging
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from relevance.errors import ConfigError, InputError
from training.data.labels.grades import count_of, number_of
from training.data.labels.weights import LABEL_CUT, LABEL_SHARE, LABEL_VOTES, LABEL_WEIGHT
from training.data.rows import MISSING, Problem, Row
from training.data.values import is_missing

log = logging.getLogger(__name__)

CLICKS, IMPRESSIONS = "clicks", "impressions"
FIT = "fit"
_RANGE = (1e-3, 1e6)  # of fitted parameters: equal rates in all rows would make them infinite


@dataclass(frozen=True, slots=True)
class BetaPrior:
    """A Beta(a, b) prior of click-through rates: as if a row had had `a` clicks and `b` impressions without one."""

    a: float
    b: float

    @classmethod
    def parse(cls, text: str) -> "BetaPrior | None":
        """Read `1:20`; None for `fit`. ConfigError for anything else."""
        if text.strip().lower() == FIT:
            return None
        numbers = [number_of(part) for part in text.split(":")]
        if len(numbers) != 2 or not all(number is not None and number > 0 for number in numbers):
            raise ConfigError(f"--clicks {text!r}: expected {FIT}, or a Beta prior of two numbers above 0, as in 1:20")
        return cls(*map(float, numbers))  # type: ignore[arg-type]

    @classmethod
    def fitted(cls, counts: Iterable[tuple[int, int]]) -> "BetaPrior":
        """Return the prior of greatest beta-binomial likelihood for (clicks, impressions) [N].

        InputError where all impressions or none have a click, since any rate would fit, and where no row has two
        impressions: single ones do not say how much rates differ, so any strength of the prior would fit.
        """
        # Heavy, and needed for this alone: options of commands import this module.
        import numpy as np
        from scipy.optimize import minimize
        from scipy.special import betaln

        found = Counter(counts)
        clicks, shown, times = np.array([(*pair, count) for pair, count in found.items()], dtype=np.float64).T
        total, of = int(clicks @ times), int(shown @ times)
        if not 0 < total < of:
            raise InputError(
                f"--clicks {FIT}: {total} clicks in {of} impressions; expected impressions with and without a click, "
                "or a given prior, as in --clicks 1:20"
            )
        if shown.max() < 2:
            raise InputError(
                f"--clicks {FIT}: no row has two impressions, which would say how much rates differ; expected a given "
                "prior, as in --clicks 0.2:0.8"
            )

        def loss(logs: np.ndarray) -> float:
            a, b = np.exp(logs)
            return -float(times @ (betaln(clicks + a, shown - clicks + b) - betaln(a, b))) / of

        start = np.log([20 * total / of, 20 * (1 - total / of)])
        a, b = np.exp(minimize(loss, start, method="L-BFGS-B", bounds=[np.log(_RANGE)] * 2).x)
        log.info("clicks: fitted Beta prior %.4g:%.4g, mean rate %.4f", a, b, a / (a + b))
        return cls(float(a), float(b))

    @property
    def mean(self) -> float:
        """The mean rate."""
        return self.a / (self.a + self.b)

    def rate(self, clicks: int, impressions: int) -> float:
        """Return the smoothed click-through rate."""
        return (clicks + self.a) / (impressions + self.a + self.b)

    def weight(self, impressions: int) -> float:
        """Return the share of the data in the smoothed rate."""
        return impressions / (impressions + self.a + self.b)


def check_counts(record: dict[str, Any], problems: list[Problem]) -> bool:
    """Make the counts of a record integers, in place, or add its problems. Return whether it has counts."""
    found: dict[str, int] = {}
    for name in (CLICKS, IMPRESSIONS):
        value = record.get(name)
        count = None if is_missing(value) else count_of(value)
        if count is not None:
            found[name] = count
        else:
            kind = "not a count" if name in record else MISSING
            problems.append(Problem(kind, name, value, "a whole number from 0, without separators of thousands"))
    if len(found) < 2:
        return False
    if found[CLICKS] > found[IMPRESSIONS]:
        expected = f"at most the {found[IMPRESSIONS]} {IMPRESSIONS}"
        problems.append(Problem("clicks above impressions", CLICKS, found[CLICKS], expected))
        return False
    record |= found
    return True


def counts_of(row: Row) -> tuple[int, int] | None:
    """Return the clicks and impressions of a row; None where it lacks one."""
    pair = row.extra.get(CLICKS), row.extra.get(IMPRESSIONS)
    return None if any(map(is_missing, pair)) else pair  # type: ignore[return-value] - check_counts made them integers


def with_rate(row: Row, prior: BetaPrior) -> Row:
    """Return a row with target, weight, votes and label of its counts; one without counts as it is."""
    counts = counts_of(row)
    return row if counts is None else _rated(row, *counts, prior)


def _rated(row: Row, clicks: int, impressions: int, prior: BetaPrior) -> Row:
    rate = prior.rate(clicks, impressions)
    own = number_of(row.extra.get(LABEL_WEIGHT, 1))  # None: no number, which label_weights() names
    extra = {name: value for name, value in row.extra.items() if name != LABEL_VOTES}
    extra |= {LABEL_SHARE: rate, LABEL_CUT: prior.mean}
    extra |= {} if own is None else {LABEL_WEIGHT: prior.weight(impressions) * own}
    extra |= {LABEL_VOTES: impressions} if impressions else {}
    return replace(row, label=int(rate >= prior.mean), extra=extra)
