"""From dev scores to the thresholds of labels: one for all languages, and one for each language without labels.

Scores shift from language to language: a threshold that is right in English can label everything 0 in Polish. Where a
language has no labels that may be used (training had none of its rows), its threshold is matched: it labels the same
share of that language's pairs 1 as the overall threshold does of the labelled ones. Labels of such pairs are not
looked at, so dev rows do, and so do pairs of live traffic.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from relevance.card import ThresholdSource
from relevance.metrics import HISTOGRAM_ROWS, best_threshold
from relevance.tasks import LabeledPair
from training.data.extras import is_made

log = logging.getLogger(__name__)

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The overall threshold, those by language, and how each of the latter was found.

    `positive_share` is the share of labelled pairs that the overall one labels 1, which the others match.
    """

    overall: float
    positive_share: float
    by_language: dict[str, float]
    sources: dict[str, ThresholdSource]

    def with_pairs(self, scores: ArrayLike, languages: Sequence[str], source: str = "unlabelled pairs") -> Self:
        """Return these with the thresholds of languages that have enough of the unlabelled scores [N]."""
        s, codes = np.asarray(scores, dtype=np.float64), np.asarray(languages, dtype=object)
        parts = {code: s[codes == code] for code in sorted(set(languages))}
        enough = {code: part for code, part in parts.items() if len(part) >= HISTOGRAM_ROWS}
        share = self.positive_share
        return replace(
            self,
            by_language=self.by_language | {code: _matching(part, share) for code, part in enough.items()},
            sources=self.sources
            | {
                code: ThresholdSource(method="matched", source=source, rows=len(part), positive_share=share)
                for code, part in enough.items()
            },
        )


def seen_languages(rows: Sequence[LabeledPair]) -> list[str]:
    """Return the languages of training rows as users wrote them: translated rows make no language a seen one."""
    return sorted({row.pair.language for row in rows if not is_made(row)})


def choose_thresholds(
    labels: ArrayLike, scores: ArrayLike, languages: Sequence[str], seen: Sequence[str], overall: float | None = None
) -> Thresholds:
    """Return the thresholds for dev rows [N]: the overall one of best F1 over rows of seen languages (or as given).

    Languages of other rows get a matched threshold where they have HISTOGRAM_ROWS rows. Where no row of a seen language
    is there, or only one label, all rows count for the overall threshold.
    """
    y, s, codes = np.asarray(labels), np.asarray(scores, dtype=np.float64), np.asarray(languages, dtype=object)
    known = np.isin(codes.astype(str), list(seen))
    if len(set(y[known].tolist())) < 2:
        known = np.ones(len(y), dtype=bool)
    threshold = best_threshold(y[known], s[known])[0] if overall is None else overall
    chosen = Thresholds(threshold, float((s[known] >= threshold).mean()), {}, {})
    return chosen.with_pairs(s[~known], codes[~known].tolist(), "dev rows, their labels unused")


def warn_of_missing(thresholds: Thresholds, seen: Sequence[str], present: Sequence[str]) -> None:
    """Warn of languages among those `present` that get the overall threshold unseen, or of all where none is."""
    lacking = sorted(set(present) - set(seen) - set(thresholds.by_language))
    if lacking or not set(present) - set(seen):
        log.warning(
            "%s: no threshold of their own; the service labels them by the overall one, %.3f, which can be far off, "
            "since scores shift by language; give %d pairs or more of each, labels are not needed (--unlabelled FILE)",
            *(f"languages {', '.join(lacking)}" if lacking else "all languages that training did not see",),
            *(thresholds.overall, HISTOGRAM_ROWS),
        )


def _matching(scores: Floats, share: float) -> float:
    """Return the threshold at or above which this share of the scores lies, midway between two neighbours."""
    ordered = np.sort(scores)[::-1]
    count = round(share * len(ordered))
    if count == 0:
        return float((ordered[0] + 1) / 2)
    return float((ordered[count - 1] + (ordered[count] if count < len(ordered) else 0.0)) / 2)
