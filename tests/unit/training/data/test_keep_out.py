"""Rows that hang together with dev or test rows are found by query and by id, in whatever file they are named."""

import pytest
from typer.testing import CliRunner

from relevance.errors import InputError
from relevance.tasks import LabeledPair, Pair, Task, query_key
from training.cli import app
from training.data.dataset import read_pairs
from training.data.files.reading import ReadOptions
from training.data.keep_out import files_beside, iter_linked, read_kept_out
from training.data.rows import BadRowsError
from training.data.splits import write_pairs


def row(id, query, **extra):
    return LabeledPair(Pair(query, "a,b", "en"), 1, str(id), extra)


def test_split_keeps_made_rows_with_their_sources_over_any_number_of_steps(tmp_path):
    rows = [row(n, f"query {n}") for n in range(200)]
    rows += [row(f"{n}~de", f"frage {n}", source_id=float(n)) for n in range(200)]
    rows += [row(f"{n}~neg", f"frage {n} anders", source_id=f"{n}~de") for n in range(200)]
    write_pairs(tmp_path / "rows.jsonl", rows, Task.QC)
    done = CliRunner().invoke(app, ["data", "split", str(tmp_path / "rows.jsonl"), str(tmp_path / "out"), "--task=qc"])
    assert done.exit_code == 0, done.output
    placed = {}
    for name in ("train", "dev", "test"):
        for each in read_pairs(tmp_path / "out" / f"{name}_QC.txt", Task.QC).rows:
            placed.setdefault(each.id.partition("~")[0], set()).add(name)
    assert len(placed) == 200
    assert all(len(names) == 1 for names in placed.values())


def test_rows_linked_by_query_or_id_are_found_in_both_directions():
    dev = [row("d1", "Cup"), row("d2", "lampe", source_id="t5"), row("d3", "tom &amp; jerry")]
    train = [
        row("t1", "cup "),  # the same query
        row("t2", "tasse", source_id="d1"),  # made of a dev row
        row("t3", "Tasse", source_id="gone"),  # the query of t2
        row("t4", "vase", source_id="gone"),  # made of what t3 was made of
        row("t5", "lamp"),  # a dev row was made of it
        row("t6", "tom & jerry"),  # a dev query as cleaning writes it
        row("t7", "tom &amp;amp; jerry\u200b"),  # the same, not cleaned
        row("t8", "mug"),
    ]
    assert list(iter_linked(train, [dev])) == [True] * 7 + [False]


def test_ids_that_two_files_share_by_chance_link_nothing():
    train = [row(1, "cup"), row(2, "tasse", source_id=1), row(3, "vaso", source_id="8")]
    assert list(iter_linked(train, [[row(1, "lamp")], [row(8, "vase")]])) == [False, False, True]


def test_rows_made_of_one_row_that_is_gone_are_linked_over_files():
    assert list(iter_linked([row(1, "tasse", source_id=7)], [[row(1, "taza", source_id=7.0)]])) == [True]


def test_no_held_out_rows_link_nothing():
    assert list(iter_linked([row(1, "cup")], [])) == [False]
    assert list(iter_linked([], [[row(1, "cup")]])) == []


def test_dev_and_test_are_found_beside_a_file_of_their_task(tmp_path):
    for name in ("train_QC.txt", "dev_QC.txt", "test_QC.jsonl", "dev_QI.txt", "dev_QC.scored.csv"):
        (tmp_path / name).touch()
    found = files_beside(tmp_path / "train_QC.txt", Task.QC)
    assert [path.name for path in found] == ["dev_QC.txt", "test_QC.jsonl"]
    assert files_beside(tmp_path / "dev_QC.txt", Task.QC) == []


def test_commands_leave_out_what_dev_beside_the_file_holds(tmp_path):
    train = [row(n, f"cup {n}") for n in range(4)] + [row("x", "tasse 2", source_id="d1")]
    write_pairs(tmp_path / "train_QC.txt", train, Task.QC)
    write_pairs(tmp_path / "dev_QC.txt", [row("d1", "Cup  1"), row("d2", "tasse 3")], Task.QC)
    (tmp_path / "tm.tsv").write_text("en\tde\n" + "".join(f"cup {n}\ttasse {n}\n" for n in range(4)))
    arguments = ["translate", str(tmp_path / "train_QC.txt"), str(tmp_path / "out.jsonl"), "--task=qc"]
    arguments += ["--backend", f"memory:{tmp_path / 'tm.tsv'}", "--target=de", "--without-gate=language"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    queries = {query_key(each.pair.query) for each in read_pairs(tmp_path / "out.jsonl", Task.QC).rows}
    assert queries == {"cup 0", "cup 2", "cup 3", "tasse 0", "tasse 2"}
    assert "2 more rows left out" in done.output


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("dev_QC.csv", "Begriff;category_path;note\ngröße;a;E\n".encode("latin-1")),  # as FILE
        ("dev_QC.csv", "Begriff;category_path;note\ngröße;a;E\n".encode()),  # but for the encoding
        ("dev_QC.txt", '{"origin_query": "größe", "category_path": "a", "label": 1}\n'.encode()),  # of `data split`
        ("dev_QC.csv", "query,candidate,label\ngröße,a,0\n".encode()),
        ("dev_QC.csv", "query,candidate\ngröße,a\n".encode()),
    ],
)
def test_dev_is_read_whether_it_is_like_the_training_file_or_as_split_writes_it(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    columns = {"begriff": "query", "note": "label"}
    reading = ReadOptions(columns=columns, encoding="latin-1", delimiter=";", grades="E=1,I=0")
    [[found]] = read_kept_out([tmp_path / name], Task.QC, reading)
    assert found.pair.query == "größe"


def test_bad_rows_of_dev_are_named_whatever_its_columns(tmp_path):
    path = tmp_path / "dev_QC.csv"
    for header in ("begriff,candidate,label", "query,candidate,label"):
        path.write_text(f"{header}\ncup,a,1\n,b,1\n")
        with pytest.raises(BadRowsError, match="row 3: empty text"):
            read_kept_out([path], Task.QC, ReadOptions(columns={"begriff": "query"}))
    path.write_text("suche,candidate,label\ncup,a,1\n")
    with pytest.raises(InputError, match="column 'begriff' is missing"):
        read_kept_out([path], Task.QC, ReadOptions(columns={"begriff": "query"}))
