"""The report of negative sampling: counts by language, strategy and reason, and a histogram of similarities."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from relevance.storage.strict import StrictModel

_BINS = 20


class LanguageReport(StrictModel):
    """One language. `wanted` negatives were to be made of `sources` positive rows, `tried` of which were used.

    `rejected` counts by reason. `positive_share` counts all candidates in the bands of tried rows that were too near
    the positive; the other reasons count candidates that were drawn. `nothing_left` counts rows that gave fewer
    negatives than asked.
    """

    language: str
    positives: int
    negatives_before: int
    wanted: int
    made: int
    sources: int
    tried: int
    strategies: dict[str, int]
    rejected: dict[str, int]

    @property
    def short(self) -> int:
        """Negatives that were wanted and could not be made."""
        return self.wanted - self.made

    @property
    def negative_rate(self) -> float:
        """Share of negatives among the rows of this language now."""
        negatives = self.negatives_before + self.made
        return negatives / max(negatives + self.positives, 1)


class SimilarityHistogram(StrictModel):
    """Similarities to the query: of the negatives made, and of the positives that they were made of.

    Bin n holds edges[n] <= similarity < edges[n + 1]; the last bin holds its upper edge too.
    """

    edges: list[float]
    negatives: list[int]
    positives: list[int]

    @classmethod
    def between(cls, least: float, greatest: float) -> "SimilarityHistogram":
        """Return empty bins of equal width; there are none where `least` is above `greatest`."""
        if least > greatest:
            return cls(edges=[], negatives=[], positives=[])
        edges = np.histogram_bin_edges([least, greatest], _BINS)
        return cls(edges=edges.tolist(), negatives=[0] * _BINS, positives=[0] * _BINS)

    def with_more(self, negatives: NDArray[np.float64], positives: NDArray[np.float64]) -> "SimilarityHistogram":
        """Return the histogram with more similarities, all of which are between the edges."""
        if not self.edges:
            return self
        more = [np.histogram(values, self.edges)[0] for values in (negatives, positives)]
        return SimilarityHistogram(
            edges=self.edges,
            negatives=(np.array(self.negatives) + more[0]).tolist(),
            positives=(np.array(self.positives) + more[1]).tolist(),
        )

    def rounded(self) -> "SimilarityHistogram":
        """Return the histogram with edges that are fit to read."""
        return self.model_copy(update={"edges": np.round(self.edges, 4).tolist()})


class NegativesReport(StrictModel):
    """The whole stage. `candidates` are all the different ones, `extra_candidates` those that no row has.

    `searches` says how the negatives were found: `exact` (of all candidates), `sample` or `index` (of the nearest, by
    an approximate index). `encoder` measured the similarities.
    """

    strategy: str
    encoder: str
    rows_in: int
    rows_out: int
    made: int
    candidates: int
    extra_candidates: int = 0
    searches: dict[str, int] = Field(default_factory=dict)
    languages: list[LanguageReport]
    similarity: SimilarityHistogram

    def strategies(self) -> dict[str, int]:
        """Return the negatives made in all languages by strategy."""
        return _total([language.strategies for language in self.languages])

    def rejected(self) -> dict[str, int]:
        """Return the rejections in all languages by reason, most frequent first."""
        return _total([language.rejected for language in self.languages])

    def text(self) -> str:
        """Return the report in words: a line a language, then strategies and reasons."""
        lines = [f"{self.rows_in:,} rows in, {self.made:,} negatives made, {self.rows_out:,} rows out"]
        lines += [
            f"  {one.language:4} {one.made:7,} of {one.wanted:,} wanted, from {one.tried:,} of {one.sources:,} "
            f"positive rows; now {one.negative_rate:.1%} negative"
            for one in self.languages
        ]
        lines += [f"  {name}: {count:,}" for name, count in self.strategies().items()]
        lines += [
            f"  found by {name} search in {self.candidates:,} candidates: {count:,}"
            for name, count in self.searches.items()
        ]
        return "\n".join(lines + [f"  rejected by {name}: {count:,}" for name, count in self.rejected().items()])


def _total(counts: Sequence[dict[str, int]]) -> dict[str, int]:
    total = sum(map(Counter, counts), Counter[str]())
    return dict(sorted(total.items(), key=lambda item: (-item[1], item[0])))
