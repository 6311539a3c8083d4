"""The texts of one row, cleaned, with a tally of which step changed what. Knows which step is for which field."""

import functools
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace

from pydantic import BaseModel, ConfigDict

from relevance.formatting import split_levels
from relevance.tasks import LabeledPair, Task
from training.cleaning.options import CleaningOptions
from training.cleaning.text import COMMA_FORMS, STEPS, normalize
from training.cleaning.titles import (
    REDUPLICATING_LANGUAGES,
    load_promotions,
    without_promotions,
    without_repeats,
)

QUERY, CANDIDATE = "query", "candidate"
PROMOTIONS, REPEATED_WORDS = "promotions", "repeated_words"
_SHOWN = 5


class StepReport(BaseModel):
    """How many rows a step changed, by field, with a few (before, after); `after` has all steps applied."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    queries: int
    candidates: int
    examples: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Cleaned:
    """A text after cleaning: the steps that changed it and the promotional phrases taken out."""

    text: str
    steps: frozenset[str] = frozenset()
    promotions: tuple[tuple[str, int], ...] = ()


@dataclass(slots=True)
class Tally:
    """Counts, over rows, what each step changed."""

    changed: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    examples: dict[str, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))
    promotions: Counter[str] = field(default_factory=Counter)

    def add(self, name: str, before: str, cleaned: Cleaned) -> None:
        """Count one cleaned field."""
        for step in cleaned.steps:
            self.changed[step][name] += 1
            if len(self.examples[step]) < _SHOWN:
                self.examples[step][before] = cleaned.text
        self.promotions.update(dict(cleaned.promotions))

    def steps(self) -> dict[str, StepReport]:
        """Return one report a step, in their order, those that changed nothing too."""
        return {
            step: StepReport(
                queries=self.changed[step][QUERY],
                candidates=self.changed[step][CANDIDATE],
                examples=tuple(self.examples[step].items()),
            )
            for step in (*STEPS, PROMOTIONS, REPEATED_WORDS)
        }


class RowTexts:
    """Cleans the two texts of rows of one task by the options."""

    def __init__(self, task: Task, options: CleaningOptions) -> None:
        self._task, self._options = task, options
        self._promotions = load_promotions(options.promotions_file) if options.promotions else None
        # Paths and titles come back for many queries.
        self._path = functools.lru_cache(maxsize=1 << 16)(self._path)
        self._title = functools.lru_cache(maxsize=1 << 17)(self._title)

    def clean(self, row: LabeledPair, tally: Tally) -> LabeledPair:
        """Return the row with cleaned texts; the row itself when nothing changed."""
        query = self._normalized(row.pair.query)
        if self._task is Task.QC:
            candidate = self._path(row.pair.candidate)
        else:
            candidate = self._title(row.pair.candidate, row.pair.language not in REDUPLICATING_LANGUAGES)
        if not query.steps and not candidate.steps:
            return row
        tally.add(QUERY, row.pair.query, query)
        tally.add(CANDIDATE, row.pair.candidate, candidate)
        return replace(row, pair=replace(row.pair, query=query.text, candidate=candidate.text))

    def _normalized(self, text: str, keep: str = "") -> Cleaned:
        return Cleaned(*normalize(text, keep)) if self._options.normalize_text else Cleaned(text)

    def _path(self, path: str) -> Cleaned:
        """Normalise a category path; one that would have more or fewer levels afterwards stays as it is."""
        cleaned = self._normalized(path, COMMA_FORMS)
        return cleaned if len(split_levels(cleaned.text)) == len(split_levels(path)) else Cleaned(path)

    def _title(self, title: str, doubles: bool) -> Cleaned:
        """Clean a title until nothing changes: a promotion taken out can bring two equal words together."""
        cleaned = self._normalized(title)
        steps, promotions = set(cleaned.steps), Counter[str]()
        while True:
            before = text = cleaned.text
            if self._promotions is not None:
                text, found = without_promotions(text, self._promotions)
                promotions += found
            if promotions:
                steps.add(PROMOTIONS)
            if self._options.repeated_words:
                text, longer = without_repeats(text, doubles=doubles), text
                steps |= {REPEATED_WORDS} if text != longer else set()
            if text == before:
                return Cleaned(text, frozenset(steps), tuple(promotions.items()))
            cleaned = self._normalized(text)
            steps |= cleaned.steps
