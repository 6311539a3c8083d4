"""The commands on rows in many Parquet files of which one is bad: it is named, nothing is written, a rerun goes on."""

import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from relevance.tasks import Task
from tests import commands
from training.data.dataset import read_pairs

PARTS, PART_ROWS = 4, 500


def part(number, rows=PART_ROWS):
    at = range(number * PART_ROWS, number * PART_ROWS + rows)
    return pa.table(
        {
            "id": [f"r{n}" for n in at],
            "query": [f"query {n % 300} in words" for n in at],
            "category_path": [f"home,kitchen,shelf {n % 11}" for n in at],
            "label": [n % 2 for n in at],
            "price": [float(n) for n in at],
        }
    )


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "rows").mkdir()
    for number in range(PARTS):
        pq.write_table(part(number), tmp_path / "rows" / f"part-{number}.parquet")
    return tmp_path


def clean(folder):
    words = ["data", "clean", str(folder / "rows"), str(folder / "clean.parquet"), "--task", "qc", "--tags", "off"]
    return commands.run([*commands.RELEVANCE, *words])


def truncated(path):
    path.write_bytes(path.read_bytes()[:-200])


def garbled(path):
    content = bytearray(path.read_bytes())
    content[200:2200] = os.urandom(2000)
    path.write_bytes(content)


def without_category(path):
    pq.write_table(part(2).drop_columns("category_path"), path)


def other_name(path):
    pq.write_table(part(2).rename_columns(["id", "query", "taxonomy", "label", "price"]), path)


def numbers_for_paths(path):
    table = part(2)
    pq.write_table(table.set_column(2, "category_path", pa.array(range(PART_ROWS))), path)


def no_file_at_all(path):
    path.write_bytes(b"")


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (truncated, "cannot be read"),
        (garbled, "cannot be read"),
        (no_file_at_all, "cannot be read"),
        (without_category, "column 'category_path' is missing"),
        (other_name, "did you mean 'taxonomy'"),
        (numbers_for_paths, "500 x not text, category_path"),
    ],
)
def test_a_bad_part_is_named_nothing_is_written_and_the_same_command_then_works(folder, spoil, why):
    spoil(folder / "rows" / "part-2.parquet")
    before = sorted(folder.rglob("*"))
    failed = clean(folder)
    assert failed.returncode != 0
    assert why in failed.stderr
    assert "part-2.parquet" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert not any(f"part-{number}.parquet" in failed.stderr for number in (0, 1, 3))
    assert [path for path in sorted(folder.rglob("*")) if path.suffix != ".lock"] == before
    pq.write_table(part(2), folder / "rows" / "part-2.parquet")
    assert clean(folder).returncode == 0
    rows = read_pairs(folder / "clean.parquet", Task.QC).rows
    ids = [name for row in rows for name in (row.id, *row.extra.get("merged_ids", ()))]
    assert len(rows) > 0
    assert len(ids) == len(set(ids))


def test_all_bad_parts_are_named_at_once_before_any_row_is_read(folder):
    truncated(folder / "rows" / "part-1.parquet")
    without_category(folder / "rows" / "part-3.parquet")
    failed = clean(folder)
    assert "2 of 4 Parquet files cannot be used" in failed.stderr
    assert "part-1.parquet: cannot be read" in failed.stderr
    assert "part-3.parquet: column 'category_path' is missing" in failed.stderr


def test_parts_may_differ_in_columns_that_are_no_fields(folder):
    pq.write_table(
        part(2).drop_columns("price").append_column("stock", pa.array(["yes"] * PART_ROWS)),
        folder / "rows" / "part-2.parquet",
    )
    assert clean(folder).returncode == 0
    extras = [row.extra for row in read_pairs(folder / "clean.parquet", Task.QC).rows]
    assert sum(extra.get("stock") == "yes" for extra in extras) > 0
    assert sum(extra.get("price") is not None for extra in extras) > 0
