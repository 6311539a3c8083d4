"""Ids that are unique over several files of rows, so that made rows name their source without doubt."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from relevance.tasks import LabeledPair
from training.data.extras import MERGED_IDS, MERGED_SOURCE_IDS, SOURCE_ID, own_ids, source_ids


def with_own_ids(files: Sequence[list[LabeledPair]]) -> tuple[list[LabeledPair], int]:
    """Return the rows of several files under unique ids, and how many ids changed.

    Files often number their rows from 1 each. The id of a row in the Nth file becomes `ID@N` where an earlier file has
    the id too, that of a repeated one in a file `ID#2` and so on; `source_id` and the ids of merged rows follow within
    their file.
    """
    taken: set[str] = set()
    rows: list[LabeledPair] = []
    changed = 0
    for number, file in enumerate(files, start=1):
        clashing = {name for row in file for name in own_ids(row)} & taken
        for row in file:
            new = f"{row.id}@{number}" if row.id in clashing else row.id
            once, count = new, 1
            while new in taken:
                count += 1
                new = f"{once}#{count}"
            taken.add(new)
            extra = _renamed(row, clashing, number)
            changed += new != row.id
            rows.append(row if new == row.id and extra is row.extra else replace(row, id=new, extra=extra))
        taken |= {name for row in rows[-len(file) :] for name in own_ids(row)} if file else set()
    return rows, changed


def _renamed(row: LabeledPair, clashing: set[str], number: int) -> dict[str, Any]:
    """Return a row's extras with the clashing ids in them renamed as rows of the Nth file are."""
    names = [*own_ids(row)[1:], *source_ids(row)]
    if not clashing.intersection(names):
        return row.extra

    def new(ids: list[str]) -> list[str]:
        return [f"{name}@{number}" if name in clashing else name for name in ids]

    sources = new(source_ids(row))
    found = {SOURCE_ID: sources[:1], MERGED_SOURCE_IDS: sources[1:], MERGED_IDS: new(own_ids(row)[1:])}
    extra = {name: value for name, value in row.extra.items() if name not in found}
    return extra | {name: ids[0] if name == SOURCE_ID else ids for name, ids in found.items() if ids}
