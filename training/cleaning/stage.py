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
from training.cleaning.options import CleaningOptions, Tags
from training.cleaning.tags import TagChecker, TagReport
from training.cleaning.texts import CANDIDATE, QUERY, StepReport, TextCleaner
from training.data.stored.buckets import PLACED, RowsByPlace, RowsByQuery
from training.data.stored.rows import StoredRows, batches_of
from training.data.stored.spool import Spool, buckets_for
from training.data.votes.merging import VoteMerger, VoteReport
from training.progress import Meter


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


def clean(rows: Sequence[LabeledPair], task: Task, options: CleaningOptions) -> tuple[StoredRows, CleaningReport]:
    """Return the cleaned rows, in their order with ids and extras kept, and the report.

    Texts first, then votes (rows of one pair become one row, see training.data.votes), then tags. A row given
    another language keeps its tag in the extra `tagged_language`.

    One bucket of rows is in memory at a time, all rows of a query in one; beside it the different category paths and
    words. The rows lie in temporary files (training.data.stored.spool).

    Raises InputError for a weight out of range, ConfigError for a language that cannot be detected, MachineError when
    tags are to be checked and lingua is not installed, and when the disk is full.
    """
    cleaner = TextCleaner(task, options, _separator(rows) if task is Task.QC else "")
    buckets = buckets_for(len(rows))
    by_query = RowsByQuery(map(cleaner.clean, batches_of(rows)), buckets)
    merger, checker = VoteMerger(options.contradictions), None if options.tags is Tags.OFF else TagChecker(options)
    merged = Spool(PLACED, buckets)
    for number, bucket in enumerate(by_query):
        for batch in merger.merge(bucket):
            merged.add(batch, number)
        if checker:
            checker.see(merged.whole(number))
    del by_query
    left = RowsByPlace(len(rows))
    with Meter("language tags" if checker else "clean", len(rows), "row") as meter:
        for number in range(buckets):
            bucket = merged.whole(number)
            for batch in checker.check(bucket) if checker else (bucket,):
                left.add(batch)
            meter.advance(bucket.num_rows)
    kept = left.ordered()
    report = CleaningReport(
        rows_in=len(rows),
        rows_out=len(kept),
        changed_queries=cleaner.counts.texts[QUERY],
        changed_candidates=cleaner.counts.texts[CANDIDATE],
        steps=cleaner.counts.steps(),
        votes=merger.report(),
        tags=checker.report() if checker else None,
    )
    return kept, report


def _separator(rows: Sequence[LabeledPair]) -> str:
    """Return the separator of the levels of category paths."""
    paths: set[str] = set()
    for batch in batches_of(rows):
        paths.update(batch.column("candidate").unique().to_pylist())
    return find_separator(paths)
