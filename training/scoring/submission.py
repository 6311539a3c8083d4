"""The AnalytiCup submission: a zip of `submit_QC.txt` and `submit_QI.txt`, one {"id":..,"prediction":0|1} a line."""

import fcntl
import json
import os
import shutil
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from relevance.errors import InputError
from relevance.tasks import ANALYTICUP_TASKS, Task
from training.data.values import json_id

_SINCE = (1980, 1, 1, 0, 0, 0)  # a fixed date, so that equal predictions give equal bytes


def member_name(task: Task) -> str:
    """Return the name of a task's file in the zip."""
    return f"submit_{task.upper()}.txt"


def has_member(path: Path, task: Task) -> bool:
    """Whether a submission is there and holds predictions of the task."""
    if not path.exists():
        return False
    with zipfile.ZipFile(path) as archive:
        return member_name(task) in archive.namelist()


def check_submission(path: Path) -> None:
    """Raise InputError where `path` exists and is no submission: nothing else is ever replaced."""
    if not path.exists():
        return
    try:
        with zipfile.ZipFile(path) as archive:
            strange = sorted(set(archive.namelist()) - {member_name(task) for task in ANALYTICUP_TASKS})
            broken = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, OSError) as error:
        raise InputError(f"submission {path}: {error}; expected a zip of submissions, or no file") from None
    if strange or broken:
        fault = f"holds {', '.join(map(repr, strange))}" if strange else f"{broken} is damaged"
        expected = " and ".join(member_name(task) for task in ANALYTICUP_TASKS)
        raise InputError(f"submission {path}: {fault}; expected only {expected}, or no file")


def write_submission(path: Path, task: Task, predictions: Iterable[tuple[str, int]]) -> None:
    """Write a task's member of (row id, 0 or 1), keep the other task's; the zip changes whole or not at all.

    Ids that are whole numbers are written as numbers. Raises InputError where `path` holds anything else.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.part")  # one name: what a killed run left is replaced by the next one
    with _alone_in(path.parent):
        check_submission(path)
        try:
            with beside.open("wb") as stream:
                _write_zip(stream, path, task, predictions)
                stream.flush()
                os.fsync(stream.fileno())
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)


def _write_zip(stream: BinaryIO, old: Path, task: Task, predictions: Iterable[tuple[str, int]]) -> None:
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for member in ANALYTICUP_TASKS:
            if member is task:
                with archive.open(_entry(member), "w", force_zip64=True) as lines:
                    lines.writelines(map(_line, predictions))
            elif old.exists():
                _copy(old, archive, member)


def _copy(path: Path, archive: zipfile.ZipFile, task: Task) -> None:
    with zipfile.ZipFile(path) as old:
        if member_name(task) in old.namelist():
            with old.open(member_name(task)) as source, archive.open(_entry(task), "w", force_zip64=True) as target:
                shutil.copyfileobj(source, target)


def _entry(task: Task) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(member_name(task), _SINCE)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o644 << 16
    return entry


def _line(prediction: tuple[str, int]) -> bytes:
    row_id, label = prediction
    line = {"id": json_id(row_id), "prediction": label}
    return f"{json.dumps(line)}\n".encode()


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Wait for the folder's lock: the QC and the QI run may end at once, and each must keep the other's member."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
