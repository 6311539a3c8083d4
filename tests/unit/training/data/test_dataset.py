import csv
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevance.errors import InputError
from relevance.tasks import Pair, Task
from tests import SHARED_DATA
from training.data.dataset import iter_rows, read_pairs, read_rows, store_pairs
from training.data.files.reading import ReadOptions
from training.data.rows import BadRow, BadRowsError, Row
from training.data.splits import write_pairs
from training.data.stored.buckets import RepeatedKeys

GOOD = {"id": 1, "task": "QC", "language": "fr", "origin_query": "lampe", "category_path": "maison,lampes", "label": 1}

QUOTED = ReadOptions(quotes=True)

# Visible text, at least one letter of it, with every other character that UTF-8 can hold.
texts = st.builds(lambda a, b: f"{a}x{b}", *[st.text(st.characters(exclude_categories=["Cs"]))] * 2)


def write_rows(path: Path, *rows: dict | str | bytes) -> Path:
    lines = [
        row if isinstance(row, bytes) else (row if isinstance(row, str) else json.dumps(row)).encode() for row in rows
    ]
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


def without(name: str) -> dict:
    return {key: value for key, value in GOOD.items() if key != name}


def problems(path: Path, task: Task = Task.QC, **options) -> list[tuple[int, str, str]]:
    rows = [row for row in iter_rows(path, task, **options) if isinstance(row, BadRow)]
    return [(row.row, problem.kind, problem.field) for row in rows for problem in row.problems]


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.JSONL"])
def test_json_lines_become_labelled_pairs_with_typed_extras(tmp_path, name):
    path = write_rows(tmp_path / name, GOOD | {"relevance": 2.67, "tags": ["a"], "big": 2**70, "none": None})
    [row] = read_pairs(path, Task.QC).rows
    assert (row.pair, row.label, row.id) == (Pair("lampe", "maison,lampes", "fr"), 1, "1")
    assert row.extra == {"relevance": 2.67, "tags": ["a"], "big": 2**70, "none": None}


@pytest.mark.parametrize("value", [1.2345678901234568e17, "1.2345678901234568E+17", "1e+16", float(2**53)])
@pytest.mark.parametrize("name", ["id", "source_id"])
def test_an_id_that_a_float_has_rounded_is_a_bad_row(tmp_path, name, value):
    path = write_rows(tmp_path / "a.jsonl", GOOD | {name: value})
    assert problems(path) == [(1, "rounded id", name)]
    assert isinstance(next(iter_rows(path, Task.QC, require_labels=False)), Row)  # scores need no links


@pytest.mark.parametrize("value", [2**62, str(2**62), 5.0, "5e7f8a1b", "1e16"])
def test_large_whole_numbers_and_hexadecimal_digits_are_ids(tmp_path, value):
    [row] = read_pairs(write_rows(tmp_path / "a.jsonl", GOOD | {"id": value, "source_id": value}), Task.QC).rows
    assert row.id == row.extra["source_id"] == ("5" if value == 5.0 else str(value))


@pytest.mark.parametrize(("name", "delimiter"), [("a.csv", ","), ("a.tsv", "\t")])
def test_table_cells_keep_quotes_delimiters_and_line_breaks(tmp_path, name, delimiter):
    texts = ['24" monitor', 'a,b\tc\r\nd "e"\n']
    with (tmp_path / name).open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, delimiter=delimiter)
        writer.writerows([["origin_query", "item_title", "label", "color"], [*texts, "0", "red"], ["b", "c", "1", ""]])
    first, second = read_pairs(tmp_path / name, Task.QI, reading=QUOTED).rows
    assert (first.pair, first.label, first.extra) == (Pair(*texts), 0, {"color": "red"})
    assert (first.id, second.id) == ("2", "5")  # the lines on which the rows start


def test_parquet_rows_are_read_with_their_types(tmp_path):
    rows = [GOOD | {"id": i, "score": 0.5, "label": float(i % 2)} for i in range(5000)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    found = read_pairs(tmp_path / "a.parquet", Task.QC).rows
    assert [(row.id, row.label, row.extra) for row in found] == [(str(i), i % 2, {"score": 0.5}) for i in range(5000)]


def test_both_codes_of_vietnamese_give_one_and_none_gives_unk(tmp_path):
    rows = [GOOD | {"language": code} for code in ("vn", "vi", "VN ", None, "")] + [without("language")]
    found = read_pairs(write_rows(tmp_path / "a.txt", *rows), Task.QC).rows
    assert [row.pair.language for row in found] == ["vi", "vi", "vi", "unk", "unk", "unk"]


def test_row_without_id_takes_its_line_as_id(tmp_path):
    path = write_rows(tmp_path / "a.txt", without("id"), "", GOOD | {"id": None}, GOOD | {"id": "q-7"})
    assert [row.id for row in read_pairs(path, Task.QC).rows] == ["1", "3", "q-7"]


@pytest.mark.parametrize("label", [0, 1, 0.0, 1.0, "0", " 1 ", "1.0"])
def test_label_forms_of_zero_and_one_are_accepted(tmp_path, label):
    [row] = read_pairs(write_rows(tmp_path / "a.txt", GOOD | {"label": label}), Task.QC).rows
    assert type(row.label) is int
    assert row.label == float(label)


@pytest.mark.parametrize("label", [2, -1, 0.5, "maybe", None, "", [], {"a": 1}, float("nan"), 10**30])
def test_any_other_label_is_named(tmp_path, label):
    path = write_rows(tmp_path / "a.txt", GOOD, GOOD | {"label": label})
    assert problems(path) == [(2, "unknown label", "label")]


@pytest.mark.parametrize("name", ["origin_query", "category_path"])
@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (None, "empty text"),
        ("", "empty text"),
        (" \t\u3000", "empty text"),
        ("\u200b\ufeff", "empty text"),
        (5, "not text"),
        (["a"], "not text"),
        ("a\ud800", "broken text"),
    ],
)
def test_text_without_content_is_named(tmp_path, name, value, kind):
    path = write_rows(tmp_path / "a.txt", GOOD, GOOD | {name: value})
    assert problems(path) == [(2, kind, name)]


@pytest.mark.parametrize("text", ["\U0001fae9", "\ue000", "ก\u0e33", "5"])
def test_visible_text_is_never_empty(tmp_path, text):
    [row] = read_pairs(write_rows(tmp_path / "a.txt", GOOD | {"origin_query": text}), Task.QC).rows
    assert row.pair.query == text


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ("{'id': 1}", "malformed JSON"),
        ('{"id": 1', "malformed JSON"),
        ('{"id": ' + "9" * 5000 + "}", "malformed JSON"),
        ("[" * 100_000, "malformed JSON"),
        ("[1]", "not an object"),
        ("null", "not an object"),
        ("5", "not an object"),
    ],
)
def test_line_that_is_no_object_is_named_and_others_are_read(tmp_path, row, kind):
    path = write_rows(tmp_path / "a.txt", GOOD, row, GOOD)
    assert problems(path) == [(2, kind, "(row)")]


def test_place_of_a_json_fault_is_named(tmp_path):
    path = write_rows(tmp_path / "a.txt", '{"id": 1, "task" "QC"}')
    with pytest.raises(BadRowsError, match=r"Expecting ':' delimiter at character 18\)"):
        read_pairs(path, Task.QC)


def test_all_faults_of_a_row_are_named(tmp_path):
    row = {"task": "QI", "language": 3, "id": 1.5, "origin_query": "", "label": 7}
    path = write_rows(tmp_path / "a.txt", GOOD, row)
    fields = {field for _, _, field in problems(path)}
    assert fields == {"task", "language", "id", "origin_query", "category_path", "label"}


def test_bad_utf8_is_named_by_its_offset_in_the_file(tmp_path):
    good = json.dumps(GOOD).encode()
    path = write_rows(tmp_path / "a.txt", b"\xef\xbb\xbf" + good, good.replace(b"lampe", b"l\xffmpe"), good)
    with pytest.raises(BadRowsError) as caught:
        read_pairs(path, Task.QC)
    assert f"row 2: bad UTF-8, (row) = 'byte 0xff at offset {path.read_bytes().index(0xFF)} of the file'" in str(
        caught.value
    )
    assert caught.value.report.total == 3


def test_offset_counts_the_byte_order_mark(tmp_path):
    path = write_rows(tmp_path / "a.txt", b'\xef\xbb\xbf{"origin_query": "\xff"}', GOOD)
    [bad, _] = iter_rows(path, Task.QC)
    assert bad.problems[0].value == f"byte 0xff at offset {path.read_bytes().index(0xFF)} of the file"


def test_bad_utf8_in_a_table_costs_one_row(tmp_path):
    path = write_rows(tmp_path / "a.csv", b"query,candidate,label", b"a,b,1", b"\xe4,b,1", b"c,d,0")
    assert problems(path) == [(3, "bad UTF-8", "(row)")]


def test_bad_utf8_in_parquet_costs_one_row(tmp_path):
    values = pa.array([b"a", b"\xe4", b"c"], pa.binary()).view(pa.string())
    table = pa.table({"query": values, "candidate": ["x"] * 3, "label": [1] * 3})
    pq.write_table(table, tmp_path / "a.parquet")
    assert problems(tmp_path / "a.parquet") == [(2, "bad UTF-8", "query")]


def test_windows_line_ends_mark_and_line_separators_in_strings_are_read(tmp_path):
    row = json.dumps(GOOD | {"origin_query": "a\u2028b\x85c"}, ensure_ascii=False).encode()
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf" + row + b"\r\n\r\n" + row)
    assert [row.pair.query for row in read_pairs(tmp_path / "a.txt", Task.QC).rows] == ["a\u2028b\x85c"] * 2


def test_rows_with_too_few_or_too_many_cells_are_named(tmp_path):
    path = write_rows(tmp_path / "a.csv", "query,candidate,label", "a,b", "a,b,1", "a,b,1,c", "", "a,b,0")
    kind = "wrong number of cells"
    assert problems(path) == [(2, kind, "(row)"), (4, kind, "(row)")]


def test_stray_quote_costs_no_other_row(tmp_path):
    rows = ["query,candidate,label", '"24 inch,b,1', "c,d,1", '"e","f",0', "g,h,1", '"i,j,0', "k,l,1"]
    path = write_rows(tmp_path / "a.csv", *rows)
    found = list(iter_rows(path, Task.QC))
    assert [row.pair.query for row in found if isinstance(row, Row)] == ["c", "e", "g", "k"]
    assert [row.row for row in found if isinstance(row, BadRow)] == [2, 6]


def test_columns_are_renamed_by_alias_and_by_mapping(tmp_path):
    path = write_rows(tmp_path / "a.csv", "keywords,candidate,label", "a,b,1")
    [row] = read_pairs(path, Task.QI, reading=ReadOptions(columns={"keywords": "query"})).rows
    assert (row.pair, row.extra) == (Pair("a", "b"), {})


def test_alias_beside_its_field_is_an_extra(tmp_path):
    [row] = read_pairs(write_rows(tmp_path / "a.txt", GOOD | {"query": "other"}), Task.QC).rows
    assert (row.pair.query, row.extra) == ("lampe", {"query": "other"})


@pytest.mark.parametrize("name", ["a.txt", "a.csv"])
@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"lang": "language"},
            "column 'lang' is missing; columns found: 'origin_query', 'category_path', 'label', 'x'",
        ),
        ({"x": "id", "lang": "language"}, "column 'lang' is missing"),
        ({"x": "colour"}, "unknown field 'colour'; expected one of 'category_path', 'id'"),
        ({"x": "label", "label": "label"}, "2 columns are mapped to 'label'"),
        ({"x": "label"}, "'x', 'label'"),
    ],
)
def test_mapping_that_does_not_fit_is_refused(tmp_path, name, columns, message):
    path = tmp_path / name
    if name == "a.txt":
        write_rows(path, {"origin_query": "a", "category_path": "b", "label": 1, "x": 1})
    else:
        write_rows(path, "origin_query,category_path,label,x", "a,b,1,1")
    with pytest.raises(InputError) as caught:
        read_pairs(path, Task.QC, reading=ReadOptions(columns=columns))
    assert message in str(caught.value)


def test_two_columns_for_one_field_are_one_message_in_a_table(tmp_path):
    path = write_rows(tmp_path / "a.csv", "query,candidate,label,origin_query", *["a,b,1,c"] * 3)
    with pytest.raises(
        InputError, match="columns 'query', 'origin_query' both give 'origin_query'; expected one"
    ) as caught:
        read_pairs(path, Task.QC, reading=ReadOptions(columns={"query": "origin_query"}))
    assert not isinstance(caught.value, BadRowsError)


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.parquet"])
def test_column_missing_throughout_is_one_message(tmp_path, name):
    path = tmp_path / name
    if name == "a.txt":
        write_rows(path, *[without("category_path")] * 30, "{")
    elif name == "a.csv":
        write_rows(path, ",".join(without("category_path")), *["1,QC,fr,lampe,1"] * 30)
    else:
        pq.write_table(pa.Table.from_pylist([without("category_path")] * 30), path)
    with pytest.raises(InputError) as caught:
        read_pairs(path, Task.QC, bad_rows_file=tmp_path / "bad.jsonl")
    found = "'id', 'task', 'language', 'origin_query', 'label'"
    expected = f"{path}: column 'category_path' is missing; columns found: {found}; if one of them holds it, name it: "
    assert str(caught.value) == f"{expected}--column NAME=category_path"


def test_column_missing_in_some_rows_is_named_in_each(tmp_path):
    path = write_rows(tmp_path / "a.txt", GOOD, without("label"), without("origin_query"))
    assert problems(path) == [(2, "missing field", "label"), (3, "missing field", "origin_query")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"", "holds no rows"),
        ("a.txt", b"\xef\xbb\xbf\n \r\n", "holds no rows"),
        ("a.csv", b"", "holds no rows"),
        ("a.csv", b"query,candidate,label\n", "holds no rows"),
        ("a.csv", b"query,candidate,query\na,b,c\n", "columns 'query' appear more than once"),
        ("a.csv", b'"query,candidate,label\na,b,1\n', "the header has '\"query,candidate,label'"),
        ("a.csv", b"query,candid\xe4te,label\na,b,1\n", "byte 0xe4 at offset 12"),
        (
            "a.csv",
            b"id;query;label\n1;a;1\n",
            "column 'category_path' is missing; columns found: 'id', 'query', 'label'",
        ),
        ("a.txt", '{"id": 1}'.encode("utf-16-le"), "line 1 holds zero bytes: the file is UTF-16"),
        ("a.parquet", b"no parquet", "expected a Parquet file"),
        (
            "a.xlsx",
            b"x",
            "unknown file type '.xlsx'; expected one of '.txt', '.jsonl', '.ndjson', '.json'",
        ),
        ("a", b"x", "unknown file type ''"),
    ],
)
def test_file_that_cannot_be_used_is_one_message(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_pairs(tmp_path / name, Task.QC)
    assert message in str(caught.value)
    assert str(tmp_path / name) in str(caught.value)


def test_file_that_is_missing_or_a_folder_is_refused_before_reading(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        iter_rows(tmp_path / "none.txt", Task.QC)
    with pytest.raises(InputError, match="is a folder without data files"):
        iter_rows(tmp_path, Task.QC)


def test_empty_and_broken_parquet_are_refused(tmp_path):
    table = pa.Table.from_pylist([GOOD] * 5)
    pq.write_table(table.slice(0, 0), tmp_path / "empty.parquet")
    pq.write_table(table, tmp_path / "cut.parquet")
    content = (tmp_path / "cut.parquet").read_bytes()
    (tmp_path / "cut.parquet").write_bytes(content[:4] + bytes(200) + content[204:])
    with pytest.raises(InputError, match="holds no rows"):
        read_pairs(tmp_path / "empty.parquet", Task.QC)
    with pytest.raises(InputError, match=r"cut.parquet: cannot be read after row 0"):
        read_pairs(tmp_path / "cut.parquet", Task.QC)


def test_error_shows_first_rows_and_counts_all(tmp_path):
    path = write_rows(tmp_path / "a.txt", GOOD, *[GOOD | {"label": 2}] * 30, *[GOOD | {"origin_query": ""}] * 5)
    with pytest.raises(BadRowsError) as caught:
        read_pairs(path, Task.QC)
    lines = str(caught.value).splitlines()
    assert lines[:3] == [f"{path}: 35 bad of 36 rows", "  30 x unknown label, label", "  5 x empty text, origin_query"]
    assert "labels other than 0 and 1: 2 x 30" in lines[3]
    assert "--grades" in lines[3]
    assert lines[4] == f"{path} row 2: unknown label, label = 2; expected 0 or 1"
    assert lines[-1].startswith("and 15 more bad rows; ")
    assert len(lines) == 4 + 20 + 1
    assert len(caught.value.report.bad_rows) == 35


def test_good_rows_go_on_when_bad_ones_have_a_file(tmp_path):
    raw = json.dumps(GOOD | {"label": 2, "origin_query": ""})
    path = write_rows(tmp_path / "a.txt", GOOD, raw, b"\xff", GOOD | {"id": 5})
    found = read_pairs(path, Task.QC, bad_rows_file=tmp_path / "bad.jsonl")
    written = [json.loads(line) for line in (tmp_path / "bad.jsonl").read_text().splitlines()]
    assert [row.id for row in found.rows] == ["1", "5"]
    assert [(row["row"], row["field"], row["value"], row["expected"]) for row in written] == [
        (2, "origin_query", "", "text that can be seen"),
        (2, "label", 2, "0 or 1"),
        (
            3,
            "(row)",
            f"byte 0xff at offset {path.read_bytes().index(0xFF)} of the file",
            "UTF-8, or the name of the encoding, for example --encoding latin-1",
        ),
    ]
    assert [(row["file"], row["raw"]) for row in written[1:]] == [(str(path), raw), (str(path), "\\xff")]


def test_bad_rows_file_of_an_earlier_run_does_not_stay(tmp_path):
    path = write_rows(tmp_path / "a.txt", GOOD)
    (tmp_path / "bad.jsonl").write_text("old")
    read_pairs(path, Task.QC, bad_rows_file=tmp_path / "bad.jsonl")
    assert (tmp_path / "bad.jsonl").read_bytes() == b""


def test_file_without_a_good_row_is_an_error_all_the_same(tmp_path):
    path = write_rows(tmp_path / "a.txt", GOOD | {"label": 2})
    with pytest.raises(BadRowsError):
        read_pairs(path, Task.QC, bad_rows_file=tmp_path / "bad.jsonl")
    assert json.loads((tmp_path / "bad.jsonl").read_text())["row"] == 1


def test_bad_rows_never_overwrite_the_data(tmp_path):
    path = write_rows(tmp_path / "a.jsonl", GOOD, "{")
    before = path.read_bytes()
    with pytest.raises(InputError, match="is the input"):
        read_pairs(path, Task.QC, bad_rows_file=path)
    with pytest.raises(InputError, match="lies in the input"):
        read_pairs(path, Task.QC, bad_rows_file=tmp_path / "a.jsonl" / "bad.jsonl")
    assert path.read_bytes() == before


def test_unlabelled_rows_are_read_when_labels_are_not_required(tmp_path):
    rows = [without("label"), GOOD | {"label": None}, GOOD | {"label": float("nan")}, GOOD, GOOD | {"label": 2}]
    path = write_rows(tmp_path / "a.txt", *rows)
    found = list(iter_rows(path, Task.QC, require_labels=False))
    assert [row.label for row in found[:4] if isinstance(row, Row)] == [None, None, None, 1]
    assert problems(path, require_labels=False) == [(5, "unknown label", "label")]
    good = write_rows(tmp_path / "good.txt", *rows[:4])
    assert [row.label for row in store_pairs(good, Task.QC, require_labels=False).rows] == [0, 0, 0, 1]
    with pytest.raises(InputError, match="3 bad of 4 rows"):
        store_pairs(good, Task.QC)


def test_table_without_label_column_is_read_when_labels_are_not_required(tmp_path):
    path = write_rows(tmp_path / "a.tsv", "query\tcandidate", "a\tb")
    assert read_rows(path, Task.QI, require_labels=False).rows == [Row(Pair("a", "b"), None, "2", 2)]
    with pytest.raises(InputError, match="column 'label' is missing"):
        read_rows(path, Task.QI)


def test_repeated_ids_are_reported_and_kept(tmp_path):
    found = read_rows(write_rows(tmp_path / "a.txt", GOOD, GOOD, GOOD | {"id": 2}), Task.QC)
    assert (found.report.repeated_ids, len(found.rows)) == (("1",), 3)


def test_repeated_ids_of_many_rows_come_in_the_order_of_their_first_rows():
    repeats, names = RepeatedKeys(), [f"id {at % 9000}" for at in range(20_000)] + ["half \ud83d"] * 2 + ["once"]
    for name in names:
        repeats.add(name)
    assert repeats.found() == [f"id {at}" for at in range(9000)] + ["half \ud83d"]
    assert RepeatedKeys().found() == []


def test_rows_are_streamed(tmp_path):
    path = write_rows(tmp_path / "a.txt", GOOD)
    rows = iter_rows(path, Task.QC)
    assert isinstance(next(rows), Row)
    with path.open("ab") as stream:
        stream.write(b"{")  # a reader that had taken the whole file would not see it
    assert isinstance(next(rows), BadRow)


@given(
    st.lists(st.tuples(texts, texts, st.sampled_from([0, 1]), texts), min_size=1, max_size=5),
    st.sampled_from([",", "\t"]),
)
def test_any_text_comes_back_from_tables(tmp_path_factory, rows, delimiter):
    path = tmp_path_factory.mktemp("any") / ("a.csv" if delimiter == "," else "a.tsv")
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, delimiter=delimiter, quoting=csv.QUOTE_ALL)
        writer.writerows([["query", "candidate", "label", "note"], *rows])
    found = read_pairs(path, Task.QC, reading=QUOTED).rows
    assert [(row.pair.query, row.pair.candidate, row.label, row.extra["note"]) for row in found] == rows


@given(st.binary(max_size=200), st.sampled_from(["a.txt", "a.csv", "a.tsv", "a.parquet"]))
def test_any_bytes_give_rows_or_an_input_error(tmp_path_factory, content, name):
    path = tmp_path_factory.mktemp("bytes") / name
    path.write_bytes(b"query,candidate,label\n" + content if name == "a.csv" else content)
    try:
        found = list(iter_rows(path, Task.QC))
    except InputError:
        return
    numbers = [row.number if isinstance(row, Row) else row.row for row in found]
    assert numbers == sorted(set(numbers))


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "task", "count"),
    [("analyticup_qc/dev_QC.txt", Task.QC, 2134), ("home_depot_qi/dev_QI.txt", Task.QI, 7551)],
)
def test_real_files_have_no_bad_row_and_come_back_whole(tmp_path, name, task, count):
    path = SHARED_DATA / name
    if not path.exists():
        pytest.skip(f"{path} is not here")
    rows = read_pairs(path, task).rows
    write_pairs(tmp_path / "copy.txt", rows, task)
    assert len(rows) == count
    assert read_pairs(tmp_path / "copy.txt", task).rows == rows
