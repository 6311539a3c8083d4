"""Pair blocks hold what `iter_rows` yields, row by row, whatever the values are."""

import itertools
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevance.errors import InputError
from relevance.tasks import Task
from training.data.dataset import iter_records, iter_rows, read_rows
from training.data.files.reading import AS_IT_COMES, ReadOptions
from training.data.pair_blocks import iter_pair_blocks
from training.data.rows import BadRow

TEXTS = ["cup", "", " ", "NULL", "a\u00a0b", "a\u200bb", "\u200b", "\ud800", None, 3, ["x"], "\tcup", "靴"]
VALUES = {
    "origin_query": TEXTS,
    "query": TEXTS[:3],
    "category_path": TEXTS,
    "label": [0, 1, 2, "1", "1.0", "true", True, 0.5, None, "", "NULL", [1], 1.0],
    "language": ["en", "pt-BR", "xx", "", None, "None", 3, ["en"], float("nan")],
    "id": [7, "a", 5.0, 2.5, True, None, "", [1]],
    "task": ["qc", "QC", "qi", None, "", " qc ", 1, ["qc"]],
    "Query ": TEXTS[:2],
}
RECORDS = st.fixed_dictionaries({}, optional={name: st.sampled_from(values) for name, values in VALUES.items()})
READINGS = st.sampled_from([AS_IT_COMES, ReadOptions(columns={"query": "candidate"}), ReadOptions(grades="0:1")])


def read(stream):
    """Return all that a stream yields, and the text of its error."""
    try:
        return list(stream), ""
    except InputError as error:
        return [], str(error)


def assert_same(path, reading):
    """Compare pairs, places, records and bad rows with those of the readers of single rows."""
    rows, error = read(iter_rows(path, Task.QC, reading=reading, require_labels=False))
    blocks, same_error = read(iter_pair_blocks(path, Task.QC, reading))
    assert same_error == error
    if error:
        return
    records = [record for _, record in iter_records(path, Task.QC, reading)]
    bad = [each for block in blocks for each in block.bad]
    assert bad == [(place, row) for place, row in enumerate(rows) if isinstance(row, BadRow)]
    good = [(place, row) for place, row in enumerate(rows) if not isinstance(row, BadRow)]
    pairs = [each for block in blocks for each in zip(block.queries, block.candidates, block.languages, strict=True)]
    assert pairs == [(row.pair.query, row.pair.candidate, row.pair.language) for _, row in good]
    assert [place for block in blocks for place in block.places] == [place for place, _ in good]
    assert [number for block in blocks for number in block.numbers] == [row.number for _, row in good]
    kept = [record for block in blocks for record in block.records]
    assert repr(kept) == repr([records[place].content for place, _ in good])


@given(st.lists(RECORDS, min_size=1, max_size=8), READINGS)
def test_json_lines_of_any_values(tmp_path_factory, records, reading):
    file = tmp_path_factory.mktemp("blocks") / "in.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    assert_same(file, reading)


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\n\n", " \n"])
def test_lines_that_are_no_objects_and_lines_that_end_in_other_ways(tmp_path, ending):
    good = [json.dumps({"query": f"cup {n}", "candidate": "a,b"}) for n in range(3)]
    odd = ['{"query": "x",', '"candidate": "y"}', "[1]", "3", '{"a": 1} {"b": 2}', "{}", " " + good[0], '{"a": NaN}']
    (tmp_path / "in.jsonl").write_text(ending.join([*good, *odd, *good]))
    assert_same(tmp_path / "in.jsonl", AS_IT_COMES)
    content = ending.join([*good, "x", *good]).encode().replace(b"x", b'{"query": "\xff"}')
    (tmp_path / "bytes.jsonl").write_bytes(b"\xef\xbb\xbf" + content)
    assert_same(tmp_path / "bytes.jsonl", AS_IT_COMES)


def test_an_array_a_table_and_parquet_of_several_blocks(tmp_path):
    rows = [{"query": ("cup", "")[n % 50 == 7], "candidate": f"a,b {n}", "language": "en"} for n in range(2500)]
    (tmp_path / "in.json").write_text("\n[\n" + ",\n\n".join(map(json.dumps, rows)) + "\n]\n")
    lines = ["query,candidate,language", *(",".join(f'"{value}"' for value in row.values()) for row in rows)]
    (tmp_path / "in.csv").write_text("\n".join(lines))
    pq.write_table(pa.Table.from_pylist(rows * 2), tmp_path / "in.parquet")
    for name in ("in.json", "in.csv", "in.parquet"):
        assert_same(tmp_path / name, AS_IT_COMES)


def test_a_file_without_rows_and_a_column_that_is_nowhere_are_named(tmp_path):
    (tmp_path / "in.jsonl").write_text("\n")
    with pytest.raises(InputError, match="holds no rows"):
        list(iter_pair_blocks(tmp_path / "in.jsonl", Task.QC))
    (tmp_path / "in.jsonl").write_text('{"query": "x", "candidate": "a"}\n')
    with pytest.raises(InputError, match="column 'q' is missing"):
        list(iter_pair_blocks(tmp_path / "in.jsonl", Task.QC, ReadOptions(columns={"q": "origin_query"})))


def test_lines_over_several_blocks_of_bytes_keep_their_numbers_and_offsets(tmp_path, monkeypatch):
    monkeypatch.setattr("training.data.files.lines.BLOCK_BYTES", 40)
    good = json.dumps({"query": "cup", "candidate": "a,b"}).encode()
    lines = itertools.chain.from_iterable([good, b'{"query": "\xff"}'] for _ in range(6))
    (tmp_path / "in.jsonl").write_bytes(b"\n".join(lines))
    assert_same(tmp_path / "in.jsonl", AS_IT_COMES)
    bad = [row for block in iter_pair_blocks(tmp_path / "in.jsonl", Task.QC) for _, row in block.bad]
    assert [row.row for row in bad] == [2, 4, 6, 8, 10, 12]
    assert bad[1].problems[0].value == f"byte 0xff at offset {2 * len(good) + 3 + 14 + 11} of the file"


@pytest.mark.parametrize(
    ("names", "rows", "said"),
    [
        (("lang",), ["ja", ""], ["does the column 'lang' hold them? Then give --column lang=language"]),
        (("lang", "Language"), ["ja,ja", ","], []),
        (("note",), ["ja"], []),
        (("language",), ["klingon", "KLINGON", "n/a", "en"], ["2 rows have a language that is no known code"]),
        (("language",), ["", "\u200bxx"], ["1 rows have a language that is no known code"]),
    ],
)
def test_odd_languages_are_warned_of_as_in_training(tmp_path, caplog, names, rows, said):
    file = tmp_path / "in.csv"
    file.write_text(
        "\n".join([",".join(["query", "candidate", *names]), *(f"a,b {n},{r}" for n, r in enumerate(rows))])
    )
    list(iter_pair_blocks(file, Task.QC))
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == len(said)
    assert all(part in message for part, message in zip(said, messages, strict=True))
    caplog.clear()
    read_rows(file, Task.QC, require_labels=False)
    assert [record.getMessage() for record in caplog.records] == messages
