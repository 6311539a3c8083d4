"""The cleaning stage: rows in, cleaner rows and a report of what each step changed out.

Every script is kept. Formatting, which training and serving share, is not touched: what a model needs at serving time
belongs there. Cleaning is idempotent: cleaning its result changes nothing, whatever the options.
"""

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from relevance.tasks import LabeledPair, Task
from training.cleaning.options import CleaningOptions
from training.cleaning.rowtexts import RowTexts, StepReport, Tally
from training.cleaning.tags import TagReport, check_rows
from training.cleaning.votes import VoteReport, merge_votes


class CleaningReport(BaseModel):
    """What cleaning did. `changed_*` count rows, before any was merged."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows_in: int
    rows_out: int
    changed_queries: int
    changed_candidates: int
    steps: dict[str, StepReport]
    promotions: dict[str, int]
    votes: VoteReport
    tags: TagReport | None


def clean(
    rows: Sequence[LabeledPair], task: Task, options: CleaningOptions
) -> tuple[list[LabeledPair], CleaningReport]:
    """Return the cleaned rows, in their order with ids and extras kept, and the report.

    Texts first, then votes (rows of one pair become one row, see training.cleaning.votes), then tags. A row given
    another language keeps its tag in the extra `tagged_language`. Raises InputError for a broken promotions file or a
    weight out of range, ConfigError for a language that cannot be detected, MachineError when tags are to be checked
    and lingua is not installed.
    """
    tally = Tally()
    cleaner = RowTexts(task, options)
    texts = [cleaner.clean(row, tally) for row in rows]
    left, votes = merge_votes(texts, options.contradictions)
    left, tags = check_rows(left, options)
    report = CleaningReport(
        rows_in=len(rows),
        rows_out=len(left),
        changed_queries=sum(a.pair.query != b.pair.query for a, b in zip(rows, texts, strict=True)),
        changed_candidates=sum(a.pair.candidate != b.pair.candidate for a, b in zip(rows, texts, strict=True)),
        steps=tally.steps(),
        promotions=dict(tally.promotions.most_common()),
        votes=votes,
        tags=tags,
    )
    return left, report
