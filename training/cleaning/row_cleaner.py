"""The texts of one row, cleaned, with counts of what each step changed. Knows which step is for which field."""

import functools
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace

from relevance.storage.strict import StrictModel
from relevance.tasks import LabeledPair, Task
from relevance.text.characters import COMMA_FORMS, STEPS, normalize
from relevance.text.formatting import path_levels
from training.cleaning.options import CleaningOptions

QUERY, CANDIDATE = "query", "candidate"
_SHOWN = 5


class StepReport(StrictModel):
    """How many rows a step changed, by field, with a few (before, after); `after` has all steps applied."""

    queries: int
    candidates: int
    examples: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Cleaned:
    """A text after cleaning and the steps that changed it."""

    text: str
    steps: frozenset[str] = frozenset()


@dataclass(slots=True)
class StepCounts:
    """Counts, over rows, what each step changed."""

    changed: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    examples: dict[str, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))

    def add(self, name: str, before: str, cleaned: Cleaned) -> None:
        """Count one cleaned field."""
        for step in cleaned.steps:
            self.changed[step][name] += 1
            if len(self.examples[step]) < _SHOWN:
                self.examples[step][before] = cleaned.text

    def steps(self) -> dict[str, StepReport]:
        """Return one report a step, in their order, those that changed nothing too."""
        return {
            step: StepReport(
                queries=self.changed[step][QUERY],
                candidates=self.changed[step][CANDIDATE],
                examples=tuple(self.examples[step].items()),
            )
            for step in STEPS
        }


class RowCleaner:
    """Cleans the two texts of rows of one task by the options; `separator` divides the levels of category paths."""

    def __init__(self, task: Task, options: CleaningOptions, separator: str) -> None:
        self._task, self._options, self._separator = task, options, separator
        # Many rows share queries, paths and titles.
        self._normalized = functools.lru_cache(maxsize=1 << 17)(self._normalized)

    def clean(self, row: LabeledPair, counts: StepCounts) -> LabeledPair:
        """Return the row with cleaned texts; the row itself when nothing changed."""
        query = self._normalized(row.pair.query)
        candidate = (self._path if self._task is Task.QC else self._normalized)(row.pair.candidate)
        if not query.steps and not candidate.steps:
            return row
        counts.add(QUERY, row.pair.query, query)
        counts.add(CANDIDATE, row.pair.candidate, candidate)
        return replace(row, pair=replace(row.pair, query=query.text, candidate=candidate.text))

    def _normalized(self, text: str, keep: str = "") -> Cleaned:
        return Cleaned(*normalize(text, keep)) if self._options.normalize_text else Cleaned(text)

    def _path(self, path: str) -> Cleaned:
        """Normalise a category path; one that would have more or fewer levels afterwards stays as it is."""
        cleaned = self._normalized(path, COMMA_FORMS)
        before, after = (len(path_levels(text, self._separator)) for text in (path, cleaned.text))
        return cleaned if before == after else Cleaned(path)
