import random
import resource
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from relevance.errors import InputError, MachineError
from relevance.tasks import LabeledPair, Pair, Task, query_key
from training.cleaning.options import CleaningOptions, Tags
from training.cleaning.stage import clean
from training.data.groups import iter_groups
from training.data.splits import split_pairs
from training.data.stored import spool
from training.data.stored.buckets import RowsByPlace, RowsByQuery
from training.data.stored.rows import StoredRows, batches_of, stored
from training.pipeline.tables import open_rows, write_rows
from training.reports.measures import measure


def row(at, **extra):
    return LabeledPair(Pair(f"query {at % 40}", f"path {at % 7},leaf", "en"), int(at % 3 == 0), f"r{at}", extra)


ROWS = [
    row(0),
    row(1, date="2024-01-01", number=1.5, listed=["a", {"b": None}], text="é \u3000"),
    replace(row(2), id="half \ud83d", extra={"half": "\ud83d"}),
]


def noisy(count):
    """Rows with repeated pairs under both labels, entities, links by source and votes."""
    chance = random.Random(3)
    rows = []
    for at in range(count):
        query = chance.choice(["Red Shoes", "red  shoes", "boots &amp; more", f"lamp {at % 60}", f"табло {at % 9}"])
        extra = chance.choice([{}, {}, {"label_votes": 3}, {"source_id": f"r{at // 2}", "source": "translation"}])
        path = f"home,kitchen,{chance.randrange(4)}"
        pair = Pair(query, path, chance.choice(["en", "de", "ru", "fr"]))
        rows.append(LabeledPair(pair, chance.randrange(2), f"r{at}", dict(extra)))
    return rows


def test_rows_come_back_as_they_were():
    assert stored(ROWS) == ROWS
    assert list(stored([])) == []


def test_rows_are_a_sequence():
    rows = [row(at) for at in range(30_000)]
    found = stored(rows)
    assert isinstance(found, StoredRows)
    assert (len(found), found[0], found[-1], found[9000]) == (30_000, rows[0], rows[-1], rows[9000])
    assert found[8190:8194] == rows[8190:8194]
    assert found != rows[:-1]
    with pytest.raises(IndexError):
        found[30_000]


def test_rows_of_a_query_meet_in_one_bucket_and_come_back_in_order(monkeypatch):
    monkeypatch.setattr(spool, "BUCKET_ROWS", 16)
    rows = [row(at) for at in range(500)]
    buckets = spool.buckets_for(len(rows))
    by_query = RowsByQuery(batches_of(rows), buckets)
    seen: list[set[str]] = []
    again = RowsByPlace(len(rows))
    for bucket in by_query:
        seen.append(set(bucket.column("key").to_pylist()))
        again.add(bucket.drop_columns("key"))
    assert buckets == 32
    assert sum(map(len, seen)) == len(set.union(*seen)) == 40
    assert again.ordered() == rows


@pytest.fixture(params=[1, 7, 100])
def small_buckets(request, monkeypatch):
    """So few rows a bucket, in files on disk."""
    monkeypatch.setattr(spool, "BUCKET_ROWS", request.param)
    monkeypatch.setattr(spool, "_IN_MEMORY", 1)


def results(rows, tags=Tags.OFF):
    cleaned, report = clean(rows, Task.QC, CleaningOptions(tags=tags))
    groups = iter_groups(cleaned)
    splits = split_pairs(cleaned, seed=5, groups=groups, held_out_languages=["ru"])
    figures = measure({name: list(part) for name, part in splits.items()} | {"all": rows}, Task.QC, tags=False)
    return list(cleaned), report, {name: list(part) for name, part in splits.items()}, figures


@pytest.fixture(scope="module")
def in_one_bucket():
    return results(noisy(600))


def test_results_do_not_depend_on_the_number_of_buckets(in_one_bucket, small_buckets):
    cleaned, report, splits, figures = results(noisy(600))
    assert cleaned == in_one_bucket[0]
    assert report.model_copy(update={"steps": {}}) == in_one_bucket[1].model_copy(update={"steps": {}})
    assert splits == in_one_bucket[2]
    assert figures == in_one_bucket[3]


def test_tags_do_not_depend_on_the_number_of_buckets(monkeypatch):
    pytest.importorskip("lingua")
    words = ["rote schuhe für damen", "red shoes for women", "zapatos rojos de mujer", "chaussures rouges femme"]
    rows = [
        LabeledPair(Pair(f"{words[at % 4]} {at}", "a,b", ["de", "en", "es", "fr"][(at + at // 30) % 4]), 1, str(at))
        for at in range(60)
    ]
    once = clean(rows, Task.QC, CleaningOptions(tags=Tags.FIX))
    monkeypatch.setattr(spool, "BUCKET_ROWS", 7)
    again = clean(rows, Task.QC, CleaningOptions(tags=Tags.FIX))
    assert once[1].tags is not None
    assert once[1].tags.changed_rows > 0
    assert (list(again[0]), again[1].tags) == (list(once[0]), once[1].tags)


def test_splits_of_stored_rows_are_those_of_a_list():
    rows = noisy(300)
    assert split_pairs(stored(rows), seed=1) == split_pairs(rows, seed=1)
    keys = [{query_key(row.pair.query) for row in part} for part in split_pairs(stored(rows), seed=1).values()]
    assert sum(map(len, keys)) == len(set.union(*keys))


def test_a_full_disk_names_the_folder_and_what_it_needs(monkeypatch):
    monkeypatch.setattr(spool, "_IN_MEMORY", 1)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
        with pytest.raises(MachineError, match=r"no room for rows outside of memory \(File too large, .*TMPDIR"):
            clean([row(at) for at in range(2000)], Task.QC, CleaningOptions(tags=Tags.OFF))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


def test_files_of_rows_are_gone_with_them(monkeypatch):
    monkeypatch.setattr(spool, "_IN_MEMORY", 1)
    before = open_files()
    found = stored([row(at) for at in range(100)])
    assert open_files() == before + 1
    del found
    assert open_files() == before


def test_rows_of_a_stage_are_read_when_they_are_gone_through(tmp_path):
    rows = [row(at, number=at) for at in range(40_000)]
    write_rows(tmp_path / "rows.parquet", rows, Task.QC)
    found = open_rows(tmp_path / "rows.parquet", Task.QC)
    assert (len(found), found[39_999]) == (40_000, rows[-1])
    assert found == rows
    write_rows(tmp_path / "again.parquet", found, Task.QC)
    assert (tmp_path / "again.parquet").read_bytes() == (tmp_path / "rows.parquet").read_bytes()


@pytest.mark.parametrize("share", [0.2, 0.5, 0.7])
def test_a_single_wrong_byte_of_a_row_group_is_named_when_it_is_reached(tmp_path, share):
    path = tmp_path / "rows.parquet"
    write_rows(path, [row(at, number=at * 7919 % 65_537) for at in range(40_000)], Task.QC)
    content = bytearray(path.read_bytes())
    content[int(share * len(content))] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"rows\.parquet: cannot be read .*expected rows of a pipeline stage"):
        list(open_rows(path, Task.QC))
