"""The cleaning stage: rows in, cleaner rows and a report of what each step changed out.

Every script is kept. What a model reads of a text is the format's work (`relevance.text.formatting`), which training
and serving share: promotions and stuttered words stay here. Characters are normalised by the format's own function, so
that equal texts are found; the format then finds nothing to do, and a cleaned text reads as the text that it was made
of. Cleaning is idempotent: cleaning its result changes nothing, whatever the options.
"""

from collections.abc import Sequence

from relevance.storage.strict import StrictModel
from relevance.tasks import LabeledPair, Task
from relevance.text.formatting import find_separator
from training.cleaning.options import CleaningOptions
from training.cleaning.row_cleaner import RowCleaner, StepCounts, StepReport
from training.cleaning.tags import TagReport, check_rows
from training.data.votes import VoteReport, merge_votes


class CleaningReport(StrictModel):
    """What cleaning did. `changed_*` count rows, before any was merged."""

    rows_in: int
    rows_out: int
    changed_queries: int
    changed_candidates: int
    steps: dict[str, StepReport]
    votes: VoteReport
    tags: TagReport | None

    def text(self) -> str:
        """Return the report in words, a line a fact."""
        votes = self.votes
        lines = [
            f"{self.rows_in:,} rows in, {self.rows_out:,} out",
            f"texts changed: {self.changed_queries:,} queries, {self.changed_candidates:,} candidates",
            *(
                f"  {name}: {step.queries:,} queries, {step.candidates:,} candidates"
                for name, step in self.steps.items()
                if step.queries or step.candidates
            ),
            f"rows merged into another: {votes.merged_rows:,}; pairs with several votes: {votes.voted_pairs:,} "
            f"({votes.votes:,} votes)",
            f"pairs with both labels: {votes.contradictory_pairs:,} ({votes.contradictory_votes:,} votes, "
            f"{votes.ties:,} ties), {votes.dropped:,} left out",
        ]
        if self.tags:
            wrong = sum(self.tags.disagreements.values())
            lines.append(f"rows whose language tag disagrees: {wrong:,}; changed {self.tags.changed_rows:,}")
            lines += [f"  {change}: {count:,}" for change, count in self.tags.disagreements.items()]
        return "\n".join(lines)


def clean(
    rows: Sequence[LabeledPair], task: Task, options: CleaningOptions
) -> tuple[list[LabeledPair], CleaningReport]:
    """Return the cleaned rows, in their order with ids and extras kept, and the report.

    Texts first, then votes (rows of one pair become one row, see training.data.votes), then tags. A row given
    another language keeps its tag in the extra `tagged_language`. Raises InputError for a weight
    out of range, ConfigError for a language that cannot be detected, MachineError when tags are to be checked
    and lingua is not installed.
    """
    counts = StepCounts()
    cleaner = RowCleaner(task, options, find_separator(row.pair.candidate for row in rows))
    texts = [cleaner.clean(row, counts) for row in rows]
    left, votes = merge_votes(texts, options.contradictions)
    left, tags = check_rows(left, options)
    report = CleaningReport(
        rows_in=len(rows),
        rows_out=len(left),
        changed_queries=sum(a.pair.query != b.pair.query for a, b in zip(rows, texts, strict=True)),
        changed_candidates=sum(a.pair.candidate != b.pair.candidate for a, b in zip(rows, texts, strict=True)),
        steps=counts.steps(),
        votes=votes,
        tags=tags,
    )
    return left, report
