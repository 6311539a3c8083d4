"""The texts of rows, cleaned, with counts of what each step changed. Knows which step is for which field."""

import functools
from collections import Counter, defaultdict
from dataclasses import dataclass, field

import pyarrow as pa

from relevance.storage.strict import StrictModel
from relevance.tasks import Task
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
    texts: Counter[str] = field(default_factory=Counter)  # changed ones by field
    examples: dict[str, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))

    def add(self, name: str, before: str, cleaned: Cleaned) -> None:
        """Count one cleaned field."""
        self.texts[name] += before != cleaned.text
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


class TextCleaner:
    """Cleans the two texts of rows of one task by the options; `separator` divides the levels of category paths."""

    def __init__(self, task: Task, options: CleaningOptions, separator: str) -> None:
        self.counts = StepCounts()
        self._task, self._options, self._separator = task, options, separator
        # Many rows share queries, paths and titles.
        self._normalized = functools.lru_cache(maxsize=1 << 16)(self._normalized)

    def clean(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return the rows with cleaned texts; the batch itself when nothing changed."""
        clean = {QUERY: self._normalized, CANDIDATE: self._path if self._task is Task.QC else self._normalized}
        for name, change in clean.items():
            before = batch.column(name).to_pylist()
            after = list(map(change, before))
            if any(cleaned.steps for cleaned in after):
                for text, cleaned in zip(before, after, strict=True):
                    if cleaned.steps:
                        self.counts.add(name, text, cleaned)
                texts = pa.array([cleaned.text for cleaned in after], pa.string())
                batch = batch.set_column(batch.schema.get_field_index(name), name, texts)
        return batch

    def _normalized(self, text: str, keep: str = "") -> Cleaned:
        return Cleaned(*normalize(text, keep)) if self._options.normalize_text else Cleaned(text)

    def _path(self, path: str) -> Cleaned:
        """Normalise a category path; one that would have more or fewer levels afterwards stays as it is."""
        cleaned = self._normalized(path, COMMA_FORMS)
        if not cleaned.steps:
            return cleaned
        before, after = (len(path_levels(text, self._separator)) for text in (path, cleaned.text))
        return cleaned if before == after else Cleaned(path)
