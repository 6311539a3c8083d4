"""Scores a file of pairs with a bundle: every field kept, in the order of the file, in bounded memory, resumable.

Three steps: a survey reads the whole file, finds what is wrong before anything is scored, and stages the good rows in
the work folder; the scores, in shards of a few thousand rows, sorted by length within a shard; the output, which joins
rows and scores. Scores depend in their last digits on which pairs share a batch, so batches depend on the rows and
options alone: an interrupted run that goes on ends with the same bytes as one left alone.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from relevance.errors import ConfigError, InputError
from relevance.scorer import Scorer
from relevance.storage.files import sha256_of
from relevance.storage.outputs import STANDARD, check_outputs, write_text
from relevance.tasks import ANALYTICUP_TASKS, Task
from training.data.files.columns import QUERY_FIELD
from training.data.files.parts import parts_of
from training.data.files.writers import check_files, output_file, output_type, write_file
from training.data.provenance import fingerprint
from training.scoring.input import Source, Survey, survey
from training.scoring.joined import check_same_columns
from training.scoring.options import ScoreOptions
from training.scoring.output import is_joined, needs_records, write_output
from training.scoring.shards import LocalRunner, Runner, Shards
from training.scoring.staged import StagedRows, staging
from training.scoring.submission import check_submission, has_member, member_name, write_submission
from training.scoring.work import Work, open_work, work_folder
from training.sources import code_key

OUTPUT_FILE = "output"
# Options that change no score. An interrupted run can go on elsewhere: on Ray, or without it.
NO_SCORE = {"prefix", "skip_bad_rows", "overwrite", "submission", "ray", "actors", "actor_gpus"}


class ScoreReport(BaseModel):
    """What a scoring run did. `resumed` of the `rows` were scored by an interrupted run before it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str
    out: str
    task: Task
    model_version: str
    device: Literal["cpu", "cuda", "endpoint"]
    rows: int
    resumed: int
    positive: int
    truncated: int
    undecided: int = Field(description="pairs that a language model answered with neither word; their score is 0.5")
    bad_rows: int
    bad_rows_file: str | None
    scoring_seconds: float = Field(description="time of the scoring pass alone")
    total_seconds: float

    def text(self) -> str:
        """Return the report in words."""
        done = f"{self.rows:,} {self.task.upper()} pairs scored by {self.model_version} on {self.device}, "
        done += f"{self.positive:,} positive, {self.truncated:,} truncated, in {self.total_seconds:.1f} s"
        if self.resumed:
            done += f"\n  {self.resumed:,} of them were scored before an interruption"
        if self.bad_rows:
            done += f"\n  {self.bad_rows:,} bad rows left out, written to {self.bad_rows_file}"
        return done


def score_file(bundle_folder: Path, file: Path, out: Path, options: ScoreOptions) -> ScoreReport:
    """Score the rows of `file` and write them to `out`, which appears whole or not at all; `-` is standard output.

    Raises ConfigError where `out` may not be written, InputError for the file, BundleError for the bundle and
    MachineError where the device, the disk or another process is in the way.
    """
    began = time.monotonic()
    check_paths(file, out, [bundle_folder], options)
    runner, options = _runner(bundle_folder, options)
    report = score_by(runner, f"bundle {bundle_folder}", file, out, options)
    return report.model_copy(update={"total_seconds": round(time.monotonic() - began, 3)})


def score_by(runner: Runner, what: str, file: Path, out: Path, options: ScoreOptions) -> ScoreReport:
    """Score the rows of `file` by an opened runner, `what` in messages, as `score_file` does."""
    paths = _Paths(file, out, _bad_rows_file(file, out))
    if out != STANDARD:
        return _score_file(runner, what, paths, options)
    with output_file(out) as whole:
        lines = whole.with_suffix(".jsonl")
        report = _score_file(runner, what, paths._replace(out=lines, lasting=False), options)
        lines.replace(whole)
    return report.model_copy(update={"out": str(out)})


class _Paths(NamedTuple):
    """The files of a run. `lasting`: the folder of `out` outlasts the command."""

    file: Path
    out: Path
    bad_rows: Path
    lasting: bool = True


def _score_file(runner: Runner, what: str, paths: _Paths, options: ScoreOptions) -> ScoreReport:
    began, (file, out, bad_file, lasting) = time.monotonic(), paths
    source = Source(file, runner.model.task, options.reading)
    mark = _mark(source, runner, options)
    if options.submission:
        _check_member(options.submission, source.task, out, options)
    with open_work(out, lasting=lasting) as work:
        check_outputs([out], overwrite=options.overwrite)  # again: a run that ended since may have written it
        staged, found = _surveyed(work, mark, source, out, options, what)
        bad_rows_file = _write_bad_rows(source, bad_file, found.bad)
        shards = Shards(source, staged, work, runner, options.shard_rows, found.good)
        scoring_began = time.monotonic()
        resumed = shards.score()
        scoring_seconds = time.monotonic() - scoring_began
        counts = write_output(work.folder / OUTPUT_FILE, out, shards, found.columns(), options)
        if _mark(source, runner, options) != mark:
            raise InputError(f"{file}: changed while it was scored; expected it to stay as it is")
        if options.submission:
            write_submission(options.submission, source.task, shards.predictions())
        (work.folder / OUTPUT_FILE).replace(out)  # the last step: after a kill before it, the same command goes on
    return ScoreReport(
        file=str(file),
        out=str(out),
        task=source.task,
        model_version=runner.model.version,
        device=runner.device,
        rows=found.good,
        resumed=resumed,
        positive=counts["positive"],
        truncated=counts["truncated"],
        undecided=counts["undecided"],
        bad_rows=found.bad,
        bad_rows_file=str(bad_rows_file) if bad_rows_file else None,
        scoring_seconds=round(scoring_seconds, 3),
        total_seconds=round(time.monotonic() - began, 3),
    )


def _runner(bundle: Path, options: ScoreOptions) -> tuple[Runner, ScoreOptions]:
    """Return what scores the shards, and the options with the threads that it uses."""
    how = {"threads": options.threads, "device": options.device, "max_batch_tokens": options.max_batch_tokens}
    if options.ray is None:
        return LocalRunner(Scorer.open(bundle, **how)), options
    from training.scoring.ray.runner import RayRunner

    options = options.model_copy(update={"threads": options.threads or 1})
    return RayRunner.open(bundle, options), options


def check_paths(file: Path, out: Path, folders: Sequence[Path], options: ScoreOptions) -> None:
    """Raise ConfigError or InputError for paths, before the model is opened."""
    parts_of(file)
    inputs = [file, *folders]
    check_files([out], inputs, overwrite=options.overwrite)
    if out.is_dir():
        raise ConfigError(f"output {out}: is a folder; expected a file")
    # These two hold more than this run's rows, or are written by a run that was interrupted: they may be there.
    check_files([_bad_rows_file(file, out)], inputs, others=[out, options.submission], overwrite=True)
    if options.submission:
        check_submission(options.submission)


def _check_member(path: Path, task: Task, out: Path, options: ScoreOptions) -> None:
    """Raise ConfigError where a submission holds the task's predictions already, but of this run interrupted.

    Also where the submission has no place for the task.
    """
    if task not in ANALYTICUP_TASKS:
        raise ConfigError(f"submission {path}: the model is for task {task}; expected {' or '.join(ANALYTICUP_TASKS)}")
    if has_member(path, task) and not options.overwrite and not work_folder(out).is_dir():
        raise ConfigError(f"submission {path}: holds {member_name(task)} already; expected none, or --overwrite")


def _surveyed(
    work: Work, mark: str, source: Source, out: Path, options: ScoreOptions, what: str
) -> tuple[StagedRows, Survey]:
    """Return the staged rows of a source and its survey, of an interrupted run if it got so far. Errors as `survey`."""
    with_records = needs_records(out, options)
    key = fingerprint(mark, str(with_records), str(output_type(out)), *options.added, str(options.skip_bad_rows))[:16]
    staged, report = StagedRows(work.folder / f"rows-{key}.arrow"), work.folder / f"survey-{key}.json"
    if not report.is_file():
        try:
            with staging(staged.path, options.shard_rows, with_records=with_records) as rows:
                found = survey(source, out, options, rows)
            if is_joined(out, source):
                check_same_columns(source)
        except InputError as error:
            task = source.task
            raise InputError(
                f"{error}\n(read as {task.upper()} pairs, {QUERY_FIELD} and {task.candidate_field}, which is what "
                f"{what} scores)"
            ) from None
        write_text(report, found.model_dump_json())
    work.begin(mark, staged.path.name, report.name)
    return staged, Survey.model_validate_json(report.read_bytes())


def _bad_rows_file(file: Path, out: Path) -> Path:
    beside = Path("standard-output") if out == STANDARD else out
    stem = "standard-input" if file == STANDARD else file.name.split("*")[0].split(".")[0] or "rows"
    return beside.parent / f"{beside.name}.bad_rows.{stem}.jsonl"


def _write_bad_rows(source: Source, target: Path, count: int) -> Path | None:
    """Write the bad rows to a file, or remove what an earlier run wrote there when there are none."""
    if not count:
        target.unlink(missing_ok=True)
        return None
    write_file(target, source.bad_records())
    return target


def _mark(source: Source, runner: Runner, options: ScoreOptions) -> str:
    """Return the fingerprint of all that the scores and their place in the shards depend on.

    Every option counts except those that only affect the output. Files count by their content and type.
    """
    how = options.model_dump_json(exclude=NO_SCORE | {"device", "reading"})
    reading = repr(source.reading)
    code = code_key("training.scoring.run:_score_file")
    parts = parts_of(source.path)
    files = [text for part in parts for text in (part.suffix, part.compression, sha256_of(part.path))]
    return fingerprint(runner.model.digest, runner.device, how, reading, code, *files)
