"""Shows a run: the origin of its datasets, and the changes of one row from stage to stage."""

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from relevance.errors import InputError
from relevance.tasks import LabeledPair, Task
from training.data.extras import own_ids, source_ids
from training.pipeline.run import STATE_FILE
from training.pipeline.stage_run import DEV, TEST, TRAIN
from training.pipeline.stages import ROW_STAGES
from training.pipeline.store import Result, read_manifest
from training.pipeline.summary import summary
from training.pipeline.tables import open_rows

_Placed = tuple[str, LabeledPair]  # the file that a row is in, and the row


@dataclass(frozen=True, slots=True)
class LastRun:
    """The last finished run in a folder: its task and its stages in their order."""

    task: Task
    stages: dict[str, Result]


class StageLine(BaseModel):
    """One stage of a run."""

    model_config = ConfigDict(frozen=True)

    stage: str
    folder: str
    did: str
    seconds: float
    created: str
    source_commit: str
    inputs: dict[str, str]

    def __str__(self) -> str:
        origins = ", ".join(f"{name} {key[:8]}" for name, key in self.inputs.items())
        return f"{self.stage:9} {self.did}\n          {self.folder}, {self.seconds:.1f} s, of {origins}"


class RowEvent(BaseModel):
    """The change of a row in one stage."""

    model_config = ConfigDict(frozen=True)

    stage: str
    did: str

    def __str__(self) -> str:
        return f"{self.stage:9} {self.did}"


def read_run(folder: Path) -> LastRun:
    """Read the last finished run. InputError where none finished in this folder, or a stage is missing."""
    path = folder / STATE_FILE
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
        places = {name: folder / "stages" / place for name, place in state["stages"].items()}
        task = Task(state["recipe"]["task"])
    except OSError:
        raise InputError(f"{folder}: no {STATE_FILE}; expected a folder that `pipeline run` has finished in") from None
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: {error}; expected what `pipeline run` wrote") from None
    return LastRun(task, {name: Result(place, read_manifest(place)) for name, place in places.items()})


def describe_run(run: LastRun) -> list[StageLine]:
    """Return one line for each stage, in their order."""
    return [
        StageLine(
            stage=name,
            folder=result.folder.name,
            did=summary(result),
            seconds=result.manifest.seconds,
            created=result.manifest.created,
            source_commit=result.manifest.source_commit,
            inputs=result.manifest.inputs,
        )
        for name, result in run.stages.items()
    ]


def describe_row(run: LastRun, key: str, _visited: frozenset[str] = frozenset()) -> list[RowEvent]:
    """Return the changes of a row by id, and the rows made of it. InputError where no stage has such a row."""
    events: list[RowEvent] = []
    before: _Placed | None = None
    origin: str | None = None
    known: set[str] = set()
    for name in ROW_STAGES:
        if name not in run.stages:
            continue
        parts = {part: _load(run, name, part) for part in (TRAIN, DEV, TEST)}
        now = next(((part, row) for part, rows in parts.items() for row in rows if row.id == key), None)
        into = next((row.id for rows in parts.values() for row in rows if key in own_ids(row)[1:]), None)
        if now is None and before is not None and into is not None:
            return [*events, RowEvent(stage=name, did=f"merged into row {into}, with its vote")]
        made = [row for row in parts[TRAIN] if key in source_ids(row) and row.id not in known]
        known |= {row.id for row in made}
        events += [RowEvent(stage=name, did=did) for did in _changes(before, now)]
        events += [RowEvent(stage=name, did=f"of it was made: {_row_text(row)}") for row in made]
        if now is not None:
            origin = origin or next(iter(source_ids(now[1])), None)
        if now is not None or (before is not None and before[0] == TRAIN):  # most stages hold training rows only
            before = now
    if not events:
        raise InputError(f"row {key!r}: no stage of this run has a row of this id")
    if origin is not None and origin not in _visited | {key}:  # files may hold rows that name themselves
        with contextlib.suppress(InputError):  # the source may be gone, or never have been here
            before_it = describe_row(run, origin, _visited | {key})
            events = [e for e in before_it if not e.did.startswith("of it was made")] + events
    return events


def _changes(before: _Placed | None, now: _Placed | None) -> list[str]:
    if now is None:
        return ["left out"] if before is not None and before[0] == TRAIN else []
    part, row = now[0].removesuffix(".parquet"), now[1]
    if before is None:
        return [f"in {part}: {_row_text(row)}"]
    old = before[1]
    changed = [
        f"{name} {was!r} became {new!r}"
        for name, was, new in (
            ("query", old.pair.query, row.pair.query),
            ("candidate", old.pair.candidate, row.pair.candidate),
            ("language", old.pair.language, row.pair.language),
            ("label", old.label, row.label),
            ("extras", old.extra, row.extra),
        )
        if was != new
    ]
    return changed or [f"kept in {part}"]


def _row_text(row: LabeledPair) -> str:
    extra = f", {json.dumps(row.extra, ensure_ascii=False)}" if row.extra else ""
    return f"id {row.id}, {row.pair.language}, {row.pair.query!r} / {row.pair.candidate!r}, label {row.label}{extra}"


def _load(run: LastRun, stage: str, part: str) -> Sequence[LabeledPair]:
    path = run.stages[stage].file(part)
    return open_rows(path, run.task) if path.is_file() else []
