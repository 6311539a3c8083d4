"""Scores a file of pairs with a bundle: every field kept, in the order of the file, in bounded memory, resumable.

Three passes over the input, each a row at a time: a survey that finds what is wrong before anything is scored; the
scores, in shards of a few thousand rows, sorted by length within a shard; the output, which joins rows and scores.
Scores depend in their last digits on which pairs share a batch, so batches depend on the rows and options alone: an
interrupted run that goes on ends with the same bytes as one left alone.
"""

import hashlib
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import onnxruntime
from pydantic import BaseModel, ConfigDict, Field

from relevance.bundle import Bundle
from relevance.errors import ConfigError, InputError, MachineError
from relevance.files import whole_file
from relevance.session import BundleSession, Device
from relevance.tasks import Task
from training.fields import QUERY_FIELD
from training.filetypes import reader_of
from training.jsonlines import write_json_lines
from training.provenance import fingerprint
from training.scoring.input import Source, Survey, survey
from training.scoring.shards import Shards
from training.scoring.submission import check_submission, write_submission
from training.scoring.work import open_work
from training.scoring.writers import Columns, file_type, write_records

ADDED = ("score", "label_predicted", "truncated", "model_version")
HEAD_BYTES = 2**20
OUTPUT_FILE = "output"


class ScoreOptions(BaseModel):
    """How to score a file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    shard_rows: int = Field(4096, ge=1, description="rows a shard. Higher: less padding. Lower: less lost by a kill")
    max_batch_tokens: int | None = Field(
        None, ge=1, description="padded tokens a batch holds at most; absent: 2048 on a CPU, 16384 on a GPU"
    )
    threads: int = Field(0, ge=0, description="threads of the model; 0: every core allowed")
    device: Device = "auto"
    prefix: str = Field("", description="put before the names of the added fields")
    skip_bad_rows: bool = Field(False, description="write bad rows to a file beside the output and go on")
    overwrite: bool = Field(False, description="replace what stands at the output")
    submission: Path | None = Field(None, description="an AnalytiCup zip to write this task's predictions to")

    @property
    def added(self) -> tuple[str, str, str, str]:
        """The names of the added fields."""
        score, label, truncated, version = (f"{self.prefix}{name}" for name in ADDED)
        return score, label, truncated, version


class ScoreReport(BaseModel):
    """What a scoring run did. `resumed` of the `rows` were scored by an interrupted run before it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str
    out: str
    task: Task
    model_version: str
    device: Literal["cpu", "cuda"]
    rows: int
    resumed: int
    positive: int
    truncated: int
    bad_rows: int
    bad_rows_file: str | None
    scoring_seconds: float = Field(description="time of the scoring pass alone")
    total_seconds: float


def score_file(bundle_folder: Path, file: Path, out: Path, options: ScoreOptions) -> ScoreReport:
    """Score the rows of `file` and write them to `out`, which appears whole or not at all.

    Raises ConfigError where `out` may not be written, InputError for the file, BundleError for the bundle and
    MachineError where the device, the disk or another process is in the way.
    """
    try:
        return _score_file(bundle_folder, file, out, options)
    except OSError as error:
        raise MachineError(f"scoring {file} to {out}: {error}; finished shards are kept beside the output") from error


def _score_file(bundle_folder: Path, file: Path, out: Path, options: ScoreOptions) -> ScoreReport:
    began = time.monotonic()
    suffix = _check_paths(file, out, options)
    bundle = Bundle.open(bundle_folder)
    runner = BundleSession.open(bundle, options.threads, options.device)
    source = Source(file, bundle.manifest.task)
    mark = _mark(source, runner, options)
    found = _survey(source, bundle, options)
    bad_rows_file = _write_bad_rows(source, out, found.bad)
    with open_work(out, mark) as work:
        shards = Shards(source, work, bundle.manifest, options.shard_rows, found.good)
        scoring_began = time.monotonic()
        resumed = shards.score(runner, options.max_batch_tokens)
        scoring_seconds = time.monotonic() - scoring_began
        counts = _write_output(shards, suffix, found.columns, options)
        if _mark(source, runner, options) != mark:
            raise InputError(f"{file}: changed while it was scored; expected it to stay as it is")
        if options.submission:
            write_submission(options.submission, source.task, shards.predictions())
        (work.folder / OUTPUT_FILE).replace(out)  # the very last, so that the same command mends a kill before it
    return ScoreReport(
        file=str(file),
        out=str(out),
        task=source.task,
        model_version=bundle.manifest.version,
        device=runner.device,
        rows=found.good,
        resumed=resumed,
        positive=counts["positive"],
        truncated=counts["truncated"],
        bad_rows=found.bad,
        bad_rows_file=str(bad_rows_file) if bad_rows_file else None,
        scoring_seconds=round(scoring_seconds, 3),
        total_seconds=round(time.monotonic() - began, 3),
    )


def _check_paths(file: Path, out: Path, options: ScoreOptions) -> str:
    """Return the type of the output. Raises ConfigError or InputError for what need not wait for the model."""
    reader_of(file)
    suffix = file_type(out)
    if out.exists() and out.samefile(file):
        raise ConfigError(f"output {out}: is the file to be scored; expected another")
    if out.is_dir():
        raise ConfigError(f"output {out}: is a folder; expected a file")
    if out.exists() and not options.overwrite:
        raise ConfigError(f"output {out}: exists already; expected a new file, or --overwrite")
    if options.submission:
        check_submission(options.submission)
    return suffix


def _survey(source: Source, bundle: Bundle, options: ScoreOptions) -> Survey:
    try:
        return survey(source, options.added, skip_bad_rows=options.skip_bad_rows)
    except InputError as error:
        task = source.task
        raise InputError(
            f"{error}\n(read as {task.upper()} pairs, {QUERY_FIELD} and {task.candidate_field}, which is what "
            f"bundle {bundle.folder} scores)"
        ) from None


def _write_bad_rows(source: Source, out: Path, count: int) -> Path | None:
    """Write the bad rows beside the output, or remove what an earlier run wrote there when there are none."""
    target = out.parent / f"{out.name}.bad_rows.{source.path.stem}.jsonl"
    if not count:
        target.unlink(missing_ok=True)
        return None
    write_json_lines(target, source.bad_records())
    return target


def _mark(source: Source, runner: BundleSession, options: ScoreOptions) -> str:
    """Return the fingerprint of all that the scores and their place in the shards depend on."""
    stat = source.path.stat()
    with source.path.open("rb") as stream:
        head = hashlib.sha256(stream.read(HEAD_BYTES)).hexdigest()
    file = (source.path.suffix.lower(), str(stat.st_size), str(stat.st_mtime_ns), head)
    how = options.model_dump_json(include={"shard_rows", "max_batch_tokens"})
    return fingerprint(runner.bundle.manifest.version, onnxruntime.__version__, runner.device, how, *file)


def _write_output(shards: Shards, suffix: str, columns: Columns, options: ScoreOptions) -> Counter[str]:
    """Write the output into the work folder; return how many rows are positive and how many truncated."""
    counts: Counter[str] = Counter(positive=0, truncated=0)
    version = shards.card.version

    def records() -> Iterator[dict[str, Any]]:
        for scored, record in shards.records():
            counts["positive"] += scored.label
            counts["truncated"] += scored.truncated
            values = (scored.score, scored.label, scored.truncated, version)
            yield record | dict(zip(options.added, values, strict=True))

    columns.see(dict(zip(options.added, (0.5, 1, True, version), strict=True)))
    with whole_file(shards.work.folder / OUTPUT_FILE) as path:
        write_records(path, suffix, records(), columns, shards.source.path)
    return counts
