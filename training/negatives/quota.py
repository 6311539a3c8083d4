"""How many negatives one language still needs, and which of its positive rows give the next ones."""

from collections import Counter
from dataclasses import dataclass, field

from training.negatives.report import LanguageReport
from training.negatives.sampler import Negative


@dataclass
class Quota:
    """The quota of one language. Each positive row is asked once, in their order, before any is asked again."""

    language: str
    positives: int
    negatives: int
    wanted: int
    limit: int  # most negatives a positive row
    attempts: int  # most negatives to ask of a row, since a filter may reject some
    sources: list[int]
    made: list[Negative] = field(default_factory=list)
    rejected: Counter[str] = field(default_factory=Counter)
    asked: Counter[int] = field(default_factory=Counter)
    _given: Counter[int] = field(default_factory=Counter)
    _exhausted: set[int] = field(default_factory=set)

    @property
    def missing(self) -> int:
        """Negatives still to be made."""
        return self.wanted - len(self.made)

    def next_round(self) -> list[tuple[int, int]]:
        """Return (row, negatives to ask for), rows asked least first; none if the quota is met or no row is left.

        The round may ask for more than is missing, since rows can fail: leave it when enough was found.
        """
        if self.missing <= 0:
            return []
        live = [row for row in self.sources if row not in self._exhausted and self._left(row) > 0]
        live.sort(key=self.asked.__getitem__)
        share = max(self.missing // max(len(live), 1), 1)
        return [(row, min(share, self._left(row))) for row in live]

    def count(self, row: int, asked: int, found: int) -> None:
        """Count the requested and the found negatives of a row; a row with too few is not asked again."""
        self.asked[row] += asked
        if found < asked:
            self._exhausted.add(row)
            self.rejected["nothing_left"] += 1

    def accept(self, picks: list[Negative]) -> None:
        """Count negatives that were made."""
        self.made += picks
        self._given.update(pick.row for pick in picks)

    def report(self) -> LanguageReport:
        """Return the counts."""
        return LanguageReport(
            language=self.language,
            positives=self.positives,
            negatives_before=self.negatives,
            wanted=self.wanted,
            made=len(self.made),
            sources=len(self.sources),
            tried=len(self.asked),
            strategies=dict(sorted(Counter(pick.strategy for pick in self.made).items())),
            rejected={name: count for name, count in sorted(self.rejected.items()) if count},
        )

    def _left(self, row: int) -> int:
        return min(self.limit - self._given[row], self.attempts - self.asked[row])
