"""Keep dev and test rows out of training: find their files, and the training rows that are linked with them.

Rows are linked by query and by `source_id`, transitively (see `groups`). Several files may use
the same ids: a `source_id` refers to the row of its own file, or of another file if its own has no such row.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from relevance.errors import InputError
from relevance.tasks import LabeledPair, Task
from training.data.dataset import store_pairs
from training.data.extras import MERGED_IDS, SOURCE_ID, own_ids, source_ids
from training.data.files.parts import COMPRESSIONS, TYPES
from training.data.files.reading import AS_IT_COMES, ReadOptions
from training.data.groups import group_key, held_keys, linked_keys
from training.data.rows import BadRowsError
from training.data.stored.rows import StoredRows, filtered, having, on_disk, queries_of

log = logging.getLogger(__name__)

PARTS = ("dev", "test")


def files_beside(file: Path, task: Task) -> list[Path]:
    """Return the dev and test files in the folder of a file, by the names that `data split` gives them.

    None for a file that is a dev or test file itself.
    """
    stems = [f"{part}_{task.upper()}" for part in PARTS]
    if file.name.partition(".")[0] in stems:
        return []
    names = {f"{stem}{suffix}{end}" for stem in stems for suffix in TYPES for end in ("", *COMPRESSIONS)}
    return [path for stem in stems for path in sorted(file.parent.glob(f"{stem}.*")) if path.name in names]


def kept_out_rows(
    file: Path, task: Task, given: Sequence[Path] | None, reading: ReadOptions = AS_IT_COMES
) -> list[StoredRows]:
    """Return the rows that must not be in training, by file: the given files, then dev and test beside `file`.

    Warns if there is no such file.
    """
    given = given or ()
    found = [path for path in files_beside(file, task) if not any(_is_same(path, other) for other in given)]
    for path in found:
        log.info("%s: its rows are kept out of training (found beside %s)", path, file.name)
    if not given and not found:
        log.warning(
            "no dev or test file was found, so their rows may be in training; expected --keep-out FILE, or "
            "dev_%s and test_%s beside %s, as `relevance data split` writes them",
            *(task.upper(), task.upper(), file.name),
        )
    return read_kept_out([*given, *found], task, reading)


def read_kept_out(files: Sequence[Path], task: Task, reading: ReadOptions = AS_IT_COMES) -> list[StoredRows]:
    """Return the rows of each file, on disk. Labels may be absent: a row without one gets 0.

    `reading` says how the training rows are read. A file may differ: `data split` writes UTF-8, the usual column names
    and labels 0 and 1, whatever it read. So each file is read without `reading.encoding` first, then with it, then as
    it comes. Where all three fail, the error is that of a file with bad rows, if there is one.
    """
    return [_read_one(file, task, reading) for file in files]


def _read_one(file: Path, task: Task, reading: ReadOptions) -> StoredRows:
    faults: list[InputError] = []
    for how in (reading.model_copy(update={"encoding": None}), reading, AS_IT_COMES):
        try:
            return on_disk(store_pairs(file, task, reading=how, require_labels=False).rows)
        except InputError as fault:
            faults.append(fault)
    raise next((fault for fault in faults if isinstance(fault, BadRowsError)), faults[0])


def iter_linked(rows: Sequence[LabeledPair], held: Sequence[Sequence[LabeledPair]]) -> Iterator[bool]:
    """Yield True for each row that is linked with a row of a held-out file.

    In memory are the queries of `held` and those that `source_id` links.
    """
    files = [rows, *held]
    sources = {name for file in files for row in having(file, SOURCE_ID) for name in source_ids(row)}
    linked: dict[str, str] = {}
    if sources:
        ids = [{name for row in file for name in own_ids(row) if name in sources} for file in files]
        linked = linked_keys(_Named(files, ids))
    leaking = {linked.get(key, key) for key in held_keys(row for file in held for row in file)}
    return (linked.get(key, key) in leaking for key in map(group_key, queries_of(rows)))


def without_linked(rows: Sequence[LabeledPair], held: Sequence[Sequence[LabeledPair]]) -> Sequence[LabeledPair]:
    """Return the rows that are not linked with a held-out row; on disk where `rows` are. Logs how many are linked."""
    kept = ~np.fromiter(iter_linked(rows, held), bool, len(rows))
    if kept.all():
        return rows
    log.warning(
        "%d of %d rows left out: dev or test has their query, or a row that is linked with them by source_id",
        *(len(rows) - int(kept.sum()), len(rows)),
    )
    return filtered(rows, kept)


class _Named:
    """The rows of all files, with ids that name the file of each id; made anew each time that they are gone through."""

    def __init__(self, files: Sequence[Sequence[LabeledPair]], ids: Sequence[set[str]]) -> None:
        self._files, self._ids = files, ids

    def __iter__(self) -> Iterator[LabeledPair]:
        return (_named(row, at, self._ids) for at, file in enumerate(self._files) for row in file)


def _named(row: LabeledPair, at: int, ids: Sequence[set[str]]) -> LabeledPair:
    """Return the row with ids that name the file of each id."""

    def name(source: str) -> str:
        owner = next((n for n in (at, *range(len(ids))) if source in ids[n]), "")
        return f"{owner}/{source}"

    own, *merged = own_ids(row)
    extra = {SOURCE_ID: [name(source) for source in source_ids(row)], MERGED_IDS: [f"{at}/{each}" for each in merged]}
    return replace(row, id=f"{at}/{own}", extra=extra)


def _is_same(path: Path, other: Path) -> bool:
    return path.exists() and other.exists() and path.samefile(other)
