"""The stage behind `relevance data from-logs`: a folder of logs to a file of rows, and a report."""

import logging
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from relevance.errors import InputError
from relevance.storage.strict import StrictModel
from relevance.tasks import Task
from training.data.files.reading import AS_IT_COMES, ReadOptions
from training.data.files.writers import Columns, beside, check_record, output_file, output_type, write_records
from training.data.labels.clicks import CLICKS, IMPRESSIONS
from training.data.labels.weights import LABEL_WEIGHT
from training.feedback.log_rows import LogRows
from training.feedback.log_store import LogStore, opened
from training.feedback.options import LogOptions
from training.feedback.texts import hashed_texts

log = logging.getLogger(__name__)


class LogReport(StrictModel):
    """What became of a log. `unmatched` events are of requests that are not in it, and are kept in a file."""

    task: Task
    lines: int
    lists: int
    events: int
    unmatched: int
    bad_lines: int
    rows: int = 0
    positive: int = 0
    judged: int = 0
    clicks: int = 0
    impressions: int = 0
    prior: tuple[float, float] | None = None

    def text(self) -> str:
        """Return the report as text."""
        found = f"{self.rows} rows, {self.positive} positive, {self.judged} judged; {self.clicks} clicks in "
        found += f"{self.impressions} impressions; of {self.lists} lists and {self.events} events"
        found += f", prior {self.prior[0]:.4g}:{self.prior[1]:.4g}" if self.prior else ""
        found += f"; {self.unmatched} events without their request" if self.unmatched else ""
        return found + (f"; {self.bad_lines} bad lines left out" if self.bad_lines else "")


class LogReading(StrictModel):
    """Where a log lies, the files that have its texts, how these are read, and whether bad lines are left out."""

    folder: Path
    texts: tuple[Path, ...] = ()
    reading: ReadOptions = AS_IT_COMES
    skip_bad_rows: bool = False


def files_beside(out: Path) -> tuple[Path, Path]:
    """Return where the unmatched events and the bad lines go."""
    return beside(out, "unmatched.jsonl"), beside(out, "bad_rows.log.jsonl")


def rows_from_logs(source: LogReading, out: Path, task: Task, options: LogOptions) -> LogReport:
    """Write the rows of a log, and beside them what could not be used.

    `OUT.unmatched.jsonl` gets the events whose request is not in the log: they may be added to a later one.
    `OUT.bad_rows.log.jsonl` gets the bad lines, if they are to be left out. InputError, which reports all of them, if
    not; InputError where no row is left.
    """
    with opened(source.folder, out) as store:
        store.add_texts(hashed_texts(source.texts, source.folder, task, source.reading))
        rows = LogRows(store, task, options)
        bad = len(store.bad)
        if bad and not source.skip_bad_rows:
            raise InputError(
                f"{source.folder}: {bad} bad of {store.total} lines\n{store.bad.text()}\n"
                "--skip-bad-rows leaves them out and writes them to a file beside OUT"
            )
        report = _written(out, rows, _counted(store, task, bad), f"{source.folder}: no rows")
        for path, records in zip(files_beside(out), (store.unmatched(), store.bad.records()), strict=True):
            _write_lines(path, records)
        return report


def _counted(store: LogStore, task: Task, bad: int) -> LogReport:
    return LogReport(
        task=task,
        lines=store.total,
        lists=store.count("lists WHERE task = ?", task.value),
        events=store.count("joined j JOIN lists l ON l.id = j.list WHERE l.task = ?", task.value),
        unmatched=store.count("unmatched"),
        bad_lines=bad,
    )


def _written(out: Path, rows: LogRows, report: LogReport, none: str) -> LogReport:
    """Write the rows, one at a time, and return the report with their counts. InputError `none` where there is none."""
    counts = dict.fromkeys(("rows", "positive", "judged", CLICKS, IMPRESSIONS), 0)

    def counted() -> Iterator[dict[str, Any]]:
        for record in rows.records():
            check_record(out, record, f"row {counts['rows'] + 1}")
            counts["rows"] += 1
            counts["positive"] += record["label"]
            counts["judged"] += LABEL_WEIGHT not in record
            counts[CLICKS] += record[CLICKS]
            counts[IMPRESSIONS] += record[IMPRESSIONS]
            yield record

    columns, prior = Columns(), rows.prior
    columns.see(rows.example)
    with output_file(out) as path:
        write_records(path, output_type(out), counted(), columns)
        if not counts["rows"]:
            raise InputError(
                f"{none}: {report.lists} lists of task {report.task} and {report.events} events on them; expected "
                "clicks, `shown` events or judgements"
            )
    return report.model_copy(update=counts | {"prior": None if prior is None else (prior.a, prior.b)})


def _write_lines(path: Path, records: Iterator[dict[str, Any]]) -> None:
    """Write records as JSON lines; where there is none, remove the file of an earlier run."""
    first = next(records, None)
    if first is None:
        path.unlink(missing_ok=True)
        return
    log.info("written to %s", path)
    with output_file(path) as target:
        write_records(target, output_type(path), chain([first], records), Columns())
