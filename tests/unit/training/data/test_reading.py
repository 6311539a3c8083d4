"""Files as other programs write them: quotes, encodings, headers, grades, missing values, part files, Parquet types."""

import contextlib
import decimal
import errno
import gzip
import hashlib
import io
import json
import lzma
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from relevance.errors import ConfigError, InputError, MachineError
from relevance.tasks import Task
from training.data.dataset import iter_rows, read_pairs, read_rows
from training.data.files.reading import ReadOptions
from training.data.groups import linked_groups
from training.data.labels.weights import label_shares, label_weights
from training.data.provenance import content_of
from training.data.rows import BadRow, BadRowsError
from training.pipeline.tables import write_rows as write_stage

HEADER = "id,language,origin_query,item_title,label"
ROW = {"id": 1, "language": "en", "origin_query": "cup", "item_title": "red cup", "label": 1}


def lines(path, *texts, encoding="utf-8"):
    path.write_bytes("".join(f"{text}\n" for text in texts).encode(encoding))
    return path


def json_lines(path, *rows):
    return lines(path, *(json.dumps(row) for row in rows))


def read(path, **options):
    return read_pairs(path, Task.QI, reading=ReadOptions(**options)).rows


def queries(path, **options):
    return [row.pair.query for row in read(path, **options)]


def refused(path, error=InputError, **options):
    with pytest.raises(error) as caught:
        read(path, **options)
    return str(caught.value)


def test_tsv_cells_with_quotes_are_text_and_swallow_nothing(tmp_path):
    rows = ['1,en,"red shoe,nike,1', '2,en,blue shoe",adidas,0', '3,en,12",x,1', '4,en,24" tv,x,1', '5,en,"a",b,0']
    path = lines(tmp_path / "a.tsv", *(row.replace(",", "\t") for row in [HEADER, *rows]))
    assert queries(path) == ['"red shoe', 'blue shoe"', '12"', '24" tv', '"a"']
    assert [row.label for row in read(path)] == [1, 0, 1, 1, 0]


def test_tsv_in_quotes_is_read_when_asked_and_says_so_when_not(tmp_path):
    path = lines(tmp_path / "a.tsv", '"query"\t"candidate"\t"label"', '"24"" tv"\t"b"\t"1"')
    assert "give --quotes" in refused(path)
    assert queries(path, quotes=True) == ['24" tv']


@pytest.mark.parametrize("label", [True, False])
@pytest.mark.parametrize("between", [[], ["2,en,b,y,0"]])
def test_a_quote_that_takes_other_rows_into_a_cell_is_a_bad_row(tmp_path, between, label):
    rows = [HEADER, '1,en,"red shoe,nike,1', *between, '3,en,blue shoe",adidas,0', "4,en,c,z,1"]
    path = lines(tmp_path / "a.csv", *(row if label else row.rpartition(",")[0] for row in rows))
    found = list(iter_rows(path, Task.QI, require_labels=label))
    [bad] = [row for row in found if isinstance(row, BadRow)]
    assert (bad.row, bad.problems[0].kind) == (2, "cell over several rows")
    assert f"lines 2 to {3 + len(between)}" in bad.problems[0].expected
    assert len(found) == 3 + len(between)


def test_a_cell_that_goes_over_lines_by_right_stays_one(tmp_path):
    path = lines(tmp_path / "a.csv", HEADER, '1,en,"red, big\nshoe, nike",x,1', '2,en,a,"one\ntwo",0')
    assert queries(path) == ["red, big\nshoe, nike", "a"]


def test_quotes_in_csv_are_text_when_asked(tmp_path):
    path = lines(tmp_path / "a.csv", HEADER, '1,en,"red shoe,nike,1', '2,en,12",adidas,0')
    assert queries(path, quotes=False) == ['"red shoe', '12"']


@pytest.mark.parametrize(
    ("encoding", "named"),
    [
        ("utf-8-sig", None),
        ("utf-16", None),
        ("utf-16-be", "utf-16-be"),
        ("utf-16-le", "utf-16-le"),
        ("utf-32", None),
        ("latin-1", "latin-1"),
        ("cp1252", "windows-1252"),
    ],
)
@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl"])
def test_encodings(tmp_path, name, encoding, named):
    cells = {"origin_query": "größe", "item_title": "naïve café", "label": 1}
    delimiter = "\t" if name == "a.tsv" else ","
    texts = [json.dumps(cells, ensure_ascii=False)]
    if name != "a.jsonl":
        texts = [delimiter.join(cells), delimiter.join(map(str, cells.values()))]
    assert queries(lines(tmp_path / name, *texts, encoding=encoding), encoding=named) == ["größe"]


def test_a_wrong_encoding_is_named_with_byte_line_and_option(tmp_path):
    path = lines(tmp_path / "a.csv", HEADER, "1,en,cup,x,1", "2,en,größe,x,1", encoding="latin-1")
    message = refused(path)
    assert "row 3" in message
    assert f"byte 0xf6 at offset {path.read_bytes().index(0xF6)} of the file" in message
    assert "--encoding latin-1" in message
    lines(path, HEADER, "1,en,cup,x,1", encoding="utf-16-le")
    assert "--encoding utf-16-le" in refused(path)
    path.write_bytes("ab\ncd".encode("utf-16") + b"\x00")
    assert "line 2: bytes at offset" in refused(path)
    assert "no such encoding" in refused(path, ConfigError, encoding="utf-61")


@pytest.mark.parametrize(
    ("label", "value"),
    [("1.00", 1), ("0.000", 0), ("True", 1), ("FALSE", 0), (" 1 ", 1), ("1e0", 1), ("+0", 0), ("1,0", 1)],
)
def test_labels_in_any_notation_of_zero_and_one(tmp_path, label, value):
    path = lines(tmp_path / "a.csv", "query,candidate,label", f'a,b,"{label}"')
    assert [row.label for row in read(path)] == [value]


@pytest.mark.parametrize("label", [True, decimal.Decimal("1.0")])
def test_labels_of_parquet(tmp_path, label):
    pq.write_table(pa.table({"query": ["a"], "candidate": ["b"], "label": [label]}), tmp_path / "a.parquet")
    assert [row.label for row in read(tmp_path / "a.parquet")] == [1]


@pytest.mark.parametrize("grades", [["1", "2", "3"], ["0", "1", "0.5"], ["1", "1", "2"], ["0", "1", "-1"]])
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_labels_of_more_than_two_values_are_refused_also_where_bad_rows_may_go(tmp_path, name, grades):
    rows = [ROW | {"label": grade if name == "a.csv" else float(grade)} for grade in grades]
    path = tmp_path / name
    if name == "a.csv":
        lines(path, ",".join(ROW), *(",".join(map(str, row.values())) for row in rows))
    else:
        json_lines(path, *rows)
    with pytest.raises(BadRowsError, match=r"may be grades too, so no row of the file is used(.|\n)*--grades"):
        read_pairs(path, Task.QI, bad_rows_file=tmp_path / "bad.jsonl")


@pytest.mark.parametrize(
    ("given", "grades", "expected"),
    [
        ("E=1,S=1,C=0,I=0", ["E", "s", "C", " I "], [1, 1, 0, 0]),
        ("1=0,2=0,3=1", ["1", "2.0", "3.00", "2"], [0, 0, 1, 0]),
        (">=2.33", ["2.33", "2", "3", "1"], [1, 0, 1, 0]),
        ("> 0.5", ["0.5", "0,75", "1", "0"], [0, 1, 1, 0]),
        ("<=1", ["1", "2", "0", "3"], [1, 0, 1, 0]),
        ("yes=1,no=0", ["yes", "No", "YES", "no"], [1, 0, 1, 0]),
    ],
)
def test_grades_become_labels_and_stay_beside_them(tmp_path, given, grades, expected):
    path = lines(tmp_path / "a.csv", "query,candidate,label", *(f'a,b,"{grade}"' for grade in grades))
    rows = read(path, grades=given)
    assert [row.label for row in rows] == expected
    assert [row.extra["grade"] for row in rows] == grades


@pytest.mark.parametrize(
    ("given", "grades", "shares"),
    [
        ("E=1,S=.7,C=.3,I=0", ["E", "S", "C", "I"], [1, 0.7, 0.3, 0]),
        ("1:3", ["1", "2.5", "3", "2", "1,5"], [0, 0.75, 1, 0.5, 0.25]),
        ("3:1", ["1", "3", "2.5"], [1, 0, 0.25]),
        ("0:1", ["0.2", "1", "0", "0.5"], [0.2, 1, 0, 0.5]),
    ],
)
def test_grades_between_become_shares_and_the_label_is_their_rounding(tmp_path, given, grades, shares):
    rows = read(json_lines(tmp_path / "a.jsonl", *(ROW | {"label": grade} for grade in grades)), grades=given)
    assert label_shares(rows) == pytest.approx(shares)
    assert [row.label for row in rows] == [int(share >= 0.5) for share in shares]
    assert [row.extra["grade"] for row in rows] == grades


def test_grades_out_of_range_are_named_by_row_and_only_they_are_lost(tmp_path):
    path = lines(tmp_path / "a.csv", "query,candidate,label", *(f"a,b{n},{n}" for n in range(6)), "a,b,top")
    message = refused(path, grades="1:3")
    for row, grade in ((2, "0"), (6, "4"), (7, "5"), (8, "top")):
        assert f"row {row}: unknown grade, label = '{grade}'; expected a number from 1 to 3, by --grades 1:3" in message
    assert "may be grades too" not in message
    found = read_pairs(path, Task.QI, reading=ReadOptions(grades="1:3"), bad_rows_file=tmp_path / "bad.jsonl")
    assert [row.pair.candidate for row in found.rows] == ["b1", "b2", "b3"]
    assert len(found.report.bad_rows) == 4


def test_a_grade_without_a_label_is_a_bad_row(tmp_path):
    path = lines(tmp_path / "a.csv", "query,candidate,label", "a,b,E", "a,c,X", "a,d,I")
    assert "row 3: unknown grade, label = 'X'; expected a grade of --grades E=1,I=0" in refused(path, grades="E=1,I=0")
    assert "labels other than 0 and 1: 'E' x 1, 'X' x 1, 'I' x 1" in refused(path)


@pytest.mark.parametrize(
    ("grades", "option"),
    [
        (["E", "S", "E", "0"], "--grades E=_,S=_,"),
        (["0", "1", "2.00", "3,0"], "--grades 0=_,1=_,2=_,3=_,"),
        (["so so", "1"], "--grades 'so so=_',"),
        ([str(n) for n in range(2, 14)], "If they are grades, give a cut, as in --grades '>=2.33', or a range"),
    ],
)
def test_the_message_has_an_option_for_the_grades_to_copy(tmp_path, grades, option):
    path = lines(tmp_path / "a.csv", "query,candidate,label", *(f'a,b,"{grade}"' for grade in grades))
    assert option in refused(path)


@pytest.mark.parametrize("text", ["E", "E=2", "E=-.1", "=1", ">=x", "E=1,E=0", "", ">=", "1:", "2:2", "a:b", "1:2:3"])
def test_grades_that_cannot_be(text):
    with pytest.raises(ConfigError, match="--grades"):
        ReadOptions(grades=text)


@pytest.mark.parametrize(
    "header",
    [
        "Origin_Query,Item_Title,Label",
        " origin_query , ITEM_TITLE ,LABEL",
        "Origin Query,item-title,label ",
        "QUERY,Candidate,Label",
    ],
)
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_fields_are_found_whatever_case_and_blanks(tmp_path, name, header):
    if name == "a.csv":
        path = lines(tmp_path / name, header, "cup,red cup,1")
    else:
        path = json_lines(tmp_path / name, dict(zip(header.split(","), ["cup", "red cup", 1], strict=True)))
    [row] = read(path)
    assert (row.pair.query, row.pair.candidate, row.label, row.extra) == ("cup", "red cup", 1, {})


def test_extras_that_mean_something_are_found_likewise(tmp_path):
    path = lines(tmp_path / "a.csv", "Query,Candidate,Label,Source_ID,Label Weight,Note", "a,b,1,7.0,0.5,x")
    assert read(path)[0].extra == {"Note": "x", "source_id": "7", "label_weight": "0.5"}


def test_the_exact_name_goes_before_one_that_is_like_it(tmp_path):
    path = json_lines(tmp_path / "a.jsonl", ROW | {"Label": 0, "ID": 7})
    [row] = read(path)
    assert (row.label, row.id, row.extra) == (1, "1", {"Label": 0, "ID": 7})


@pytest.mark.parametrize(
    ("header", "option"),
    [
        ("orgin_query,item_title,label", "--column orgin_query=origin_query"),
        ("search_term,item_title,label", "--column search_term=origin_query"),
        ("origin_query,product_title,label", "--column product_title=item_title"),
        ("origin_query,item_title,relevance", "--column relevance=label"),
        ("Search Term,item_title,label", "--column 'Search Term=origin_query'"),
        ("x,item_title,label", "--column NAME=origin_query"),
    ],
)
def test_a_missing_column_comes_with_the_option_that_names_it(tmp_path, header, option):
    assert option in refused(lines(tmp_path / "a.csv", header, "a,b,1"))
    first, second, third = header.split(",")
    assert option in refused(json_lines(tmp_path / "a.jsonl", {first: "a", second: "b", third: 1}))


def test_all_missing_columns_come_with_their_options_in_one_message(tmp_path):
    path = lines(tmp_path / "a.csv", "Search Term,Product Title,Locale,Relevant,Notes", "a,b,pt-BR,yes,c")
    message = refused(path)
    assert "columns 'origin_query', 'item_title', 'label' are missing" in message
    options = message.partition("Then give ")[2]
    wanted = {"Search Term": "origin_query", "Product Title": "item_title", "Relevant": "label", "Locale": "language"}
    given = dict(word.split("=") for word in shlex.split(options) if word != "--column")
    assert given == wanted
    [row] = read(path, columns=given)
    assert (row.pair.language, row.label, row.extra["language_tag"]) == ("pt", 1, "pt-BR")
    assert refused(lines(path, "lang,title,query,ok", "en,a,b,1")).endswith(
        "Then give --column title=item_title --column NAME=label --column lang=language"
    )


def test_a_likely_column_of_languages_is_named_where_no_row_has_one(tmp_path, caplog):
    read(lines(tmp_path / "a.csv", "query,candidate,label,lang", "a,b,1,ja", "c,d,0,"))
    assert "does the column 'lang' hold them? Then give --column lang=language" in caplog.text
    caplog.clear()
    read(lines(tmp_path / "b.csv", "query,candidate,label,lang,language", "a,b,1,ja,ja", "c,d,0,,"))
    read(lines(tmp_path / "c.csv", "query,candidate,label,note", "a,b,1,ja"))
    assert caplog.text == ""


@pytest.mark.parametrize(("said", "label"), [("yes", 1), (" Y ", 1), ("NO", 0), ("n", 0), ("True", 1), ("1.00", 1)])
def test_labels_may_be_said_in_words(tmp_path, said, label):
    assert read(lines(tmp_path / "a.csv", "query,candidate,label", f"a,b,{said}"))[0].label == label


def test_a_column_of_the_user_is_found_whatever_its_case_or_said_to_be_meant(tmp_path):
    path = lines(tmp_path / "a.csv", "Search_Term,item_title,label", "cup,b,1")
    assert queries(path, columns={"search_term": "origin_query"}) == ["cup"]
    assert "did you mean 'Search_Term'?" in refused(path, columns={"searchterm": "query"})
    assert "did you mean 'origin_query'?" in refused(path, columns={"Search_Term": "orgin_query"})


@pytest.mark.parametrize("word", ["None", "nan", "NaN", "\\N", "NULL", "<NA>", "", " "])
def test_words_for_missing_values_are_no_text(tmp_path, word):
    header = "id,language,origin_query,item_title,label,source_id,label_weight"
    path = lines(tmp_path / "a.csv", header, f"{word},{word},cup,x,1,{word},{word}")
    [row] = read(path)
    assert (row.id, row.pair.language, row.extra) == ("2", "unk", {})
    for name in ("query", "title", "label"):
        texts = {"query": f"{word},x,1", "title": f"a,{word},1", "label": f"a,x,{word}"}[name]
        with pytest.raises(BadRowsError, match=f"row 2: .*{name}"):
            read(lines(path, "origin_query,item_title,label", texts, "a,b,1"))


def test_language_tags_are_normalised_and_kept_beside(tmp_path):
    tags = ["pt-BR", "zh_CN", "iw", "in", "EN", "vn", "de", "xx-none", None]
    path = json_lines(tmp_path / "a.jsonl", *(ROW | {"language": tag} for tag in tags))
    found = [(row.pair.language, row.extra.get("language_tag")) for row in read(path)]
    expected = [("pt", "pt-BR"), ("zh", "zh_CN"), ("he", "iw"), ("id", "in"), ("en", None), ("vi", "vn"), ("de", None)]
    assert found == [*expected, ("unk", "xx-none"), ("unk", None)]


@pytest.mark.parametrize("kind", ["csv", "parquet", "jsonl"])
def test_ids_that_pandas_made_numbers_of_still_link(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    rows = [
        {"id": 5.0, "query": "hat", "candidate": "x", "label": 1, "source_id": None},
        {"id": 6.0, "query": "hut", "candidate": "x", "label": 1, "source_id": 5.0},
        {"id": 7.0, "query": "cup", "candidate": "x", "label": 1, "source_id": float("nan")},
        {"id": 8.0, "query": "mug", "candidate": "x", "label": 1, "source_id": float("nan")},
    ]
    if kind == "csv":
        lines(path, ",".join(rows[0]), *(",".join("" if v is None else str(v) for v in row.values()) for row in rows))
    elif kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        json_lines(path, *rows)
    found = read(path)
    assert [row.id for row in found] == ["5", "6", "7", "8"]
    assert [row.extra for row in found] == [{}, {"source_id": "5"}, {}, {}]
    assert len(set(linked_groups(found))) == 3


@pytest.mark.parametrize(("value", "expected"), [(" a7", "a7"), ("a 7 ", "a 7"), ("1.50", "1.50"), ("007", "007")])
def test_ids_lose_blanks_around_only(tmp_path, value, expected):
    [row] = read(json_lines(tmp_path / "a.jsonl", ROW | {"id": value}))
    assert row.id == expected


def test_rows_of_a_pipeline_keep_weight_and_source(tmp_path):
    rows = read(json_lines(tmp_path / "a.jsonl", ROW, ROW | {"id": 2, "source_id": 1, "label_weight": 0.25}))
    write_stage(tmp_path / "train.parquet", rows, Task.QI)
    found = read(tmp_path / "train.parquet")
    assert found == rows
    assert label_weights(found) == [1.0, 0.25]


@pytest.mark.parametrize("extra", ["plain", '{"label": 0}', "[1]", '{"a"'])
def test_another_column_called_extra_stays(tmp_path, extra):
    [row] = read(json_lines(tmp_path / "a.jsonl", ROW | {"extra": extra}))
    assert row.extra == {"extra": extra}


DAY = 86_400 * 10**9
COLUMNS = {
    "timestamp[ns]": (pa.array([1_700_000_000_123_456_789], pa.timestamp("ns")), "2023-11-14 22:13:20.123456789"),
    "timestamp[ns, UTC]": (pa.array([1_700_000_000_000_000_001], pa.timestamp("ns", "UTC")), None),
    "timestamp[us]": (pa.array([2**62], pa.timestamp("us")), None),
    "time64[ns]": (pa.array([1_000_000_001], pa.time64("ns")), "00:00:01.000000001"),
    "duration[ns]": (pa.array([DAY + 1], pa.duration("ns")), "86400.000000001 s"),
    "duration[s]": (pa.array([-90], pa.duration("s")), "-90 s"),
    "date out of range": (pa.array([2**31 - 1], pa.date32()), None),
    "decimal": (pa.array([decimal.Decimal("1.50")]), decimal.Decimal("1.50")),
    "binary": (pa.array([b"caf\xc3\xa9"]), "café"),
    "bytes": (pa.array([b"\xff\x00"]), "ff00"),
    "list": (pa.array([[1, 2]]), [1, 2]),
    "list of times": (pa.array([[DAY + 1]], pa.list_(pa.timestamp("ns"))), ["1970-01-02 00:00:00.000000001"]),
    "struct": (pa.array([{"a": 1, "b": None}]), {"a": 1, "b": None}),
    "list of dates out of range": (pa.array([[2**31 - 1]], pa.list_(pa.date32())), None),
    "struct of time": (pa.array([{"a": 1}], pa.struct([("a", pa.timestamp("ns"))])), None),
    "map": (pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64())), [("k", 1)]),
    "dictionary": (pa.array(["red"]).dictionary_encode(), "red"),
    "large_string": (pa.array(["red"], pa.large_string()), "red"),
    "null": (pa.nulls(1), None),
    "uint64": (pa.array([2**64 - 1], pa.uint64()), 2**64 - 1),
    "float16": (pa.array([0.5], pa.float16()), 0.5),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_parquet_columns_of_any_type_are_kept_or_named(tmp_path, name):
    column, expected = COLUMNS[name]
    table = pa.table({"query": ["cup"], "candidate": ["x"], "label": [1], "extra column": column})
    pq.write_table(table, tmp_path / "a.parquet")
    found = list(iter_rows(tmp_path / "a.parquet", Task.QI))
    if isinstance(found[0], BadRow):
        assert found[0].problems[0].field == "extra column"
        assert "out of range" in name or name == "timestamp[us]"
    elif expected is not None:
        assert found[0].extra["extra column"] == expected


def test_parquet_text_in_binary_and_large_columns_is_text(tmp_path):
    table = {"query": pa.array([b"gr\xc3\xb6\xc3\x9fe"]), "candidate": pa.array(["x"], pa.large_string()), "label": [1]}
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    assert queries(tmp_path / "a.parquet") == ["größe"]


def compressed(path, content):
    if path.suffix == ".gz":
        half = content.index(b"\n") + 1  # two members, as `cat a.gz b.gz` gives
        path.write_bytes(gzip.compress(content[:half]) + gzip.compress(content[half:]))
    else:
        with pa.output_stream(str(path), compression="zstd") as stream:
            stream.write(content)
    return path


@pytest.mark.parametrize("ending", [".gz", ".zst"])
@pytest.mark.parametrize("kind", [".jsonl", ".csv", ".tsv"])
def test_compressed_files(tmp_path, kind, ending):
    delimiter = "\t" if kind == ".tsv" else ","
    content = f"{HEADER}\n1,en,cup,x,1\n2,en,größe,x,0\n".replace(",", delimiter)
    if kind == ".jsonl":
        content = "".join(json.dumps(ROW | {"origin_query": query}) + "\n" for query in ("cup", "größe"))
    assert queries(compressed(tmp_path / f"a{kind}{ending}", content.encode())) == ["cup", "größe"]


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_compressed_files_that_break_off_are_named(tmp_path, ending):
    content = f"{HEADER}\n".encode() + b"".join(b"%d,en,cup %d,x,1\n" % (n, n * n) for n in range(5000))
    path = compressed(tmp_path / f"a.csv{ending}", content)
    path.write_bytes(path.read_bytes()[:-40])
    assert f"{path}: cannot be read" in refused(path)
    path.write_bytes(b"no compression")
    assert f"{path}: cannot be read" in refused(path)


def test_a_folder_or_pattern_of_part_files_is_read_in_order(tmp_path):
    folder = tmp_path / "rows"
    (folder / "deep").mkdir(parents=True)
    (folder / "_SUCCESS").touch()
    (folder / ".part-0.crc").touch()
    lines(folder / "part-1.csv", "query,candidate,label", "b,x,1", "c,x,0")
    json_lines(folder / "part-0.jsonl", {"query": "a", "candidate": "x", "label": 1})
    pq.write_table(pa.table({"query": ["d"], "candidate": ["x"], "label": [1]}), folder / "deep" / "p.snappy.parquet")
    assert sorted(queries(folder)) == ["a", "b", "c", "d"]
    assert queries(folder / "part-*") == ["a", "b", "c"]
    assert [row.id for row in read(folder / "part-*")] == ["part-0.jsonl:1", "part-1.csv:2", "part-1.csv:3"]
    json_lines(folder / "part-0.jsonl", {"id": 1, "query": "a", "candidate": "x", "label": 1})
    assert [row.id for row in read(folder / "part-*")] == ["1", "part-1.csv:2", "part-1.csv:3"]
    lines(folder / "part-2.csv", "query,candidate,label", "e,x,?")
    assert f"{folder / 'part-2.csv'} row 2: unknown label" in refused(folder)
    assert "no file matches this pattern" in refused(tmp_path / "nothing-*.csv")


@pytest.mark.parametrize(
    "content",
    [
        f"{HEADER}\n1,en,größe,x,1\n".encode(),
        f"{HEADER}\n1,en,größe,x,1\n".replace(",", "\t").encode(),
        json.dumps(ROW | {"origin_query": "größe"}).encode(),
        gzip.compress(f"{HEADER}\n1,en,größe,x,1\n".encode(), mtime=0),
        json.dumps([ROW | {"origin_query": "größe"}], indent=2).encode(),
        "parquet",
    ],
)
def test_standard_input_is_told_by_its_content(content):
    if content == "parquet":
        stream = io.BytesIO()
        pq.write_table(pa.Table.from_pylist([ROW | {"origin_query": "größe"}]), stream)
        content = stream.getvalue()
    code = (
        "from training.data.dataset import read_pairs; from relevance.tasks import Task\n"
        "for _ in range(2): print([row.pair.query for row in read_pairs('-', Task.QI).rows])"
    )
    done = subprocess.run([sys.executable, "-X", "utf8", "-c", code], input=content, capture_output=True, check=True)
    assert done.stdout.decode() == "['größe']\n" * 2


def test_a_json_array_is_read_and_its_rows_count_from_one(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps([ROW, ROW | {"id": None}, ROW | {"label": "?"}, 5], indent=2))
    found = list(iter_rows(path, Task.QI))
    assert [row.id for row in found[:2]] == ["1", "2"]
    assert [(row.row, row.problems[0].kind) for row in found[2:]] == [(3, "unknown label"), (4, "not an object")]
    path.write_text(json.dumps([ROW, ROW], indent=2)[:-40])
    assert "the JSON array is invalid after 1 elements" in refused(path)


def test_an_object_over_several_lines_is_named(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(json.dumps(ROW, indent=2) for _ in range(2)))
    assert "`jq -c . FILE`" in refused(path)


@pytest.mark.parametrize("delimiter", [";", "|", "\t", ","])
@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_the_delimiter_is_found_in_the_header_or_named(tmp_path, name, delimiter):
    path = lines(tmp_path / name, *(row.replace(",", delimiter) for row in (HEADER, "1,en,cup,red cup,1")))
    assert queries(path) == ["cup"]
    assert queries(path, delimiter="tab" if delimiter == "\t" else delimiter) == ["cup"]


def test_a_first_line_of_excel_says_the_delimiter(tmp_path):
    path = lines(tmp_path / "a.csv", "sep=;", "query;candidate;label", "a, b;c;1")
    assert [(row.pair.query, row.id) for row in read(path)] == [("a, b", "3")]


def test_a_cell_of_five_megabytes_is_read_and_one_without_end_is_named(tmp_path, monkeypatch):
    path = lines(tmp_path / "a.csv", HEADER, f"1,en,cup,{'x' * 5_000_000},1")
    assert len(read(path)[0].pair.candidate) == 5_000_000
    monkeypatch.setattr("training.data.files.file_types.LARGEST_CELL", 2**20)
    assert "cells of at most 1 MiB; is a quote not closed?" in refused(path)


def test_unlabelled_rows_with_grades_are_refused_too(tmp_path):
    path = lines(tmp_path / "a.csv", "query,candidate,label", "a,b,3", "a,b,")
    with pytest.raises(BadRowsError, match="--grades"):
        read_rows(path, Task.QI, require_labels=False)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", gzip.compress(f"{HEADER}\n1,en,a,b,1\n".encode(), mtime=0), r"holds compressed data; .*ends in \.gz"),
        ("a.csv.gz", gzip.compress(gzip.compress(b"x", mtime=0), mtime=0), r"holds compressed data; .*ends in \.gz"),
        ("a.jsonl", lzma.compress(b"{}"), "holds xz data; expected text, as it is or as .gz or .zst"),
        ("a.csv", b"PK\x03\x04\x14", r"holds zip \(or a spreadsheet\) data"),
        ("a.csv", f"{HEADER}\r1,en,a,b,1\r".encode(), "line breaks are carriage returns alone"),
        ("a.json", f"[{json.dumps(ROW)}]\n[{json.dumps(ROW)}]".encode(), "invalid after 1 elements .then comes '"),
        ("a.json", f"[{json.dumps(ROW)}] and more".encode(), "invalid after 1 elements .then comes 'and more'"),
    ],
)
def test_what_a_file_holds_in_truth_is_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    assert re.search(message, refused(tmp_path / name))


@pytest.mark.parametrize("name", ["rows", "rows.jsonl", "rows.csv"])
def test_a_pipe_is_read_once_and_used_as_often_as_needed(tmp_path, name):
    pipe = tmp_path / name
    os.mkfifo(pipe)
    text = f"{HEADER}\n1,en,a,b,1\n" if name != "rows.jsonl" else json.dumps(ROW)
    writer = threading.Thread(target=pipe.write_text, args=[text])
    writer.start()
    assert content_of(pipe) == hashlib.sha256(text.encode()).hexdigest()
    assert [row.id for row in read(pipe)] == ["1"]
    writer.join(10)
    assert [row.id for row in read(pipe)] == ["1"]


def test_a_copy_of_a_stream_that_finds_no_room_is_one_line(tmp_path, monkeypatch):
    def full(*streams):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", full)
    pipe = tmp_path / "rows.jsonl"
    os.mkfifo(pipe)

    def write():
        with contextlib.suppress(BrokenPipeError):  # the reader may be gone before the text is written
            pipe.write_text("{}")

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    assert "no room for a copy of" in refused(pipe, MachineError)


def test_binary_data_is_no_query_but_an_id(tmp_path):
    columns = {"id": [b"\xff\x00", b"k"], "query": [b"cup", b"\xff"], "candidate": ["a", "b"], "label": [1, 0]}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    good, bad = iter_rows(tmp_path / "a.parquet", Task.QI)
    assert (good.id, good.pair.query) == ("ff00", "cup")
    assert [(each.kind, each.field) for each in bad.problems] == [("bad UTF-8", "origin_query")]


def test_times_within_maps_and_empty_lists_of_sources(tmp_path):
    columns = {
        "query": ["cup"],
        "candidate": ["a"],
        "label": [1],
        "times": pa.array([[("k", 1)]], pa.map_(pa.string(), pa.timestamp("ns"))),
        "source_id": pa.array([[]], pa.list_(pa.string())),
    }
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    [row] = read(tmp_path / "a.parquet")
    assert row.extra == {"times": [("k", "1970-01-01 00:00:00.000000001")]}


def test_languages_by_name_are_told(tmp_path, caplog):
    tags = ["English"] * 3 + ["german", "unknown", "und", "N/A", "pt-BR", "", "None"]
    read(json_lines(tmp_path / "a.jsonl", *(ROW | {"id": n, "language": tag} for n, tag in enumerate(tags))))
    assert "4 rows have a language that is no known code ('english' x 3, 'german' x 1)" in caplog.text
    caplog.clear()
    read(json_lines(tmp_path / "a.jsonl", ROW, ROW | {"language": "und"}))
    assert not caplog.text
