"""The cleaning stage: rows in, cleaner rows and a report of what each step changed out.

Every script is kept. Formatting, which training and serving share, is not touched: what a model needs at serving time
belongs there. Cleaning is idempotent: cleaning its result changes nothing, whatever the options.
"""

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from relevance.tasks import LabeledPair, Task
from training.cleaning.duplicates import ContradictionReport, repeats, settle
from training.cleaning.options import CleaningOptions
from training.cleaning.rowtexts import RowTexts, StepReport, Tally
from training.cleaning.tags import TagReport, check_rows


class CleaningReport(BaseModel):
    """What cleaning did. `changed_*` count rows, before any was dropped."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows_in: int
    rows_out: int
    changed_queries: int
    changed_candidates: int
    steps: dict[str, StepReport]
    promotions: dict[str, int]
    repeated_rows: int
    contradictions: ContradictionReport
    tags: TagReport | None


def clean(
    rows: Sequence[LabeledPair], task: Task, options: CleaningOptions
) -> tuple[list[LabeledPair], CleaningReport]:
    """Return the cleaned rows, in their order with ids and extras kept, and the report.

    Texts first, then repeated and contradictory rows, then tags. A row given another language keeps its tag in the
    extra `tagged_language`. Raises InputError for a broken promotions file, ConfigError for a language that cannot be
    detected, MachineError when tags are to be checked and lingua is not installed.
    """
    tally = Tally()
    cleaner = RowTexts(task, options)
    texts = [cleaner.clean(row, tally) for row in rows]
    dropped, contradictory = settle(texts, options.contradictions)
    left = [row for place, row in enumerate(texts) if place not in dropped]
    again = set(repeats(left)) if options.repeated_rows else set()
    left = [row for place, row in enumerate(left) if place not in again]
    left, tags = check_rows(left, options)
    report = CleaningReport(
        rows_in=len(rows),
        rows_out=len(left),
        changed_queries=sum(a.pair.query != b.pair.query for a, b in zip(rows, texts, strict=True)),
        changed_candidates=sum(a.pair.candidate != b.pair.candidate for a, b in zip(rows, texts, strict=True)),
        steps=tally.steps(),
        promotions=dict(tally.promotions.most_common()),
        repeated_rows=len(again),
        contradictions=contradictory,
        tags=tags,
    )
    return left, report
