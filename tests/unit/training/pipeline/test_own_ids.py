"""Ids over several files: they are unique, and follow what holding all rows would give."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relevance.tasks import LabeledPair, Pair
from training.data.extras import own_ids, source_ids
from training.data.stored import spool
from training.pipeline.own_ids import with_own_ids

NAMES = st.sampled_from(["1", "2", "1@2", "1#2", "1@2#2", "2@3", "x@y", "half \ud83d"])


@st.composite
def a_row(draw):
    """A row; some name a source, or rows that were merged into them."""
    extra = {}
    if draw(st.booleans()):
        extra["source_id"] = draw(NAMES)
    if draw(st.booleans()):
        extra["merged_ids"] = draw(st.lists(NAMES, min_size=1, max_size=2))
    return LabeledPair(Pair("cup", "home,cups", "en"), 1, draw(NAMES), extra)


def all_in_memory(files):
    """The ids, sources and merged ids that are expected of each row."""
    taken, found = set(), []
    for number, file in enumerate(files, start=1):
        clashing = {name for row in file for name in own_ids(row)} & taken
        merged = set()
        for row in file:
            new = once = f"{row.id}@{number}" if row.id in clashing else row.id
            count = 1
            while new in taken:
                count += 1
                new = f"{once}#{count}"
            taken.add(new)
            renamed = [
                [f"{name}@{number}" if name in clashing else name for name in names]
                for names in (source_ids(row), own_ids(row)[1:])
            ]
            merged.update(renamed[1])
            found.append((new, *renamed))
        taken |= merged
    return found


@pytest.mark.parametrize("bucket_rows", [1, 32_768])
@settings(max_examples=60, deadline=None)
@given(files=st.lists(st.lists(a_row(), max_size=6), min_size=1, max_size=3))
def test_new_ids_are_those_that_all_rows_in_memory_would_give(files, bucket_rows):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spool, "BUCKET_ROWS", bucket_rows)
        rows, changed = with_own_ids(files)
    given_rows = [row for file in files for row in file]
    assert [(row.id, source_ids(row), own_ids(row)[1:]) for row in rows] == all_in_memory(files)
    assert changed == sum(row.id != given.id for row, given in zip(rows, given_rows, strict=True))
    assert len({row.id for row in rows}) == len(rows)
    assert [row.pair for row in rows] == [row.pair for row in given_rows]


def test_rows_of_many_pieces_are_renamed_in_their_places():
    file = [LabeledPair(Pair(f"q{at}", "c", "en"), 1, str(at)) for at in range(20_000)]
    rows, changed = with_own_ids([file, [file[0]], file])
    assert changed == 20_001
    assert rows == [*file, replace(file[0], id="0@2"), *(replace(row, id=f"{row.id}@3") for row in file)]
