"""From dev scores to label thresholds: one for all languages, and one for each language without usable labels.

Scores shift from language to language: a threshold that is right in English can label everything 0 in Polish. A
language that training did not see has no labels that may be used. Its threshold is matched: it labels the same share of
that language's pairs 1 as the overall threshold labels of the seen languages' pairs. This needs no labels, so dev rows
serve as well as pairs of live traffic.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from relevance.evaluation.metrics import HISTOGRAM_ROWS, best_threshold
from relevance.model.card import ThresholdSource
from relevance.tasks import LabeledPair
from training.data.extras import is_made

log = logging.getLogger(__name__)

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The overall threshold, those by language, and how each of the latter was found.

    `positive_share` is the share of labelled pairs that the overall threshold labels 1.
    """

    overall: float
    positive_share: float
    by_language: dict[str, float]
    sources: dict[str, ThresholdSource]

    def with_pairs(self, scores: ArrayLike, languages: Sequence[str], source: str = "unlabelled pairs") -> Self:
        """Return these with a matched threshold for each language that has HISTOGRAM_ROWS or more of the scores [N]."""
        s, codes = np.asarray(scores, dtype=np.float64), np.asarray(languages, dtype=object)
        share, by_language, sources = self.positive_share, dict(self.by_language), dict(self.sources)
        for code in sorted(set(languages)):
            part = s[codes == code]
            if len(part) >= HISTOGRAM_ROWS:
                by_language[code] = _matching(part, share)
                sources[code] = ThresholdSource(method="matched", source=source, rows=len(part), positive_share=share)
        return replace(self, by_language=by_language, sources=sources)


def seen_languages(rows: Sequence[LabeledPair]) -> list[str]:
    """Return the languages of training rows as users wrote them; translated rows do not count."""
    return sorted({row.pair.language for row in rows if not is_made(row)})


def choose_thresholds(
    labels: ArrayLike, scores: ArrayLike, languages: Sequence[str], seen: Sequence[str], overall: float | None = None
) -> Thresholds:
    """Return the thresholds for dev rows [N]; the overall one has the best F1 on seen languages, unless it is given.

    Other languages get a matched threshold where they have HISTOGRAM_ROWS rows. All rows count for the overall one
    where those of seen languages have fewer than two labels.
    """
    y, s, codes = np.asarray(labels), np.asarray(scores, dtype=np.float64), np.asarray(languages, dtype=object)
    known = np.isin(codes.astype(str), list(seen))
    if len(set(y[known].tolist())) < 2:
        known = np.ones(len(y), dtype=bool)
    threshold = best_threshold(y[known], s[known])[0] if overall is None else overall
    chosen = Thresholds(threshold, float((s[known] >= threshold).mean()), {}, {})
    return chosen.with_pairs(s[~known], codes[~known].tolist(), "dev rows, their labels unused")


def warn_of_missing(thresholds: Thresholds, seen: Sequence[str], present: Sequence[str]) -> None:
    """Warn of unseen languages among those `present` without a threshold of their own, or of all if none is present."""
    unseen = set(present) - set(seen)
    lacking = sorted(unseen - set(thresholds.by_language))
    if lacking or not unseen:
        log.warning(
            "%s: no threshold of their own; the service labels them by the overall one, %.3f, which can be far off, "
            "since scores shift by language; give %d pairs or more of each as dev rows, or without labels by "
            "`relevance train --unlabelled FILE`",
            *(f"languages {', '.join(lacking)}" if lacking else "all languages that training did not see",),
            *(thresholds.overall, HISTOGRAM_ROWS),
        )


def _matching(scores: Floats, share: float) -> float:
    """Return the threshold at or above which this share of the scores lies, midway between two neighbours."""
    ordered = np.concatenate([[1.0], np.sort(scores)[::-1], [0.0]])
    count = round(share * len(scores))
    above, below = ordered[count], ordered[count + 1]
    return float((above + below) / 2)
