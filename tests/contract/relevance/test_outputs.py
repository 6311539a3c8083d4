"""What commands write: never onto what they read, never twice, never over what is there; the name is the format."""

import io
import json
import os
import subprocess
import sys
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from relevance.cli import build_app
from relevance.errors import RelevanceError
from relevance.tasks import Task
from tests import ROOT
from tests.tiny import tiny_bundle
from training.data.dataset import read_pairs
from training.scoring.submission import write_submission

CONFIG = ROOT / "configs" / "qc.toml"
READ = ["--task", "qc"]
TRANSLATE = ["--backend", "memory:{memory}", "--target", "de", *READ]
# {out} is the output that is tried; {other} is one that does no harm.
COMMANDS = {
    "clean": ["data", "clean", "{in}", "{out}", *READ],
    "split": ["data", "split", "{in}", "{out}", *READ],
    "report": ["data", "report", "{in}", "--out", "{out}", *READ],
    "check": ["data", "check", "{in}", "--bad-rows", "{out}", *READ],
    "from-logs": ["data", "from-logs", "{in}", "{out}", *READ],
    "translate": ["translate", "{in}", "{out}", *TRANSLATE],
    "translate, rejected": ["translate", "{in}", "{other}", "--rejected", "{out}", *TRANSLATE],
    "translate, report": ["translate", "{in}", "{other}", "--report", "{out}", *TRANSLATE],
    "negatives": ["negatives", "{in}", "{out}", *READ],
    "negatives, report": ["negatives", "{in}", "{other}", "--report", "{out}", *READ],
    "validate": ["validate", "{in}", "{out}", "--recipe", str(CONFIG), *READ],
    "validate, report": ["validate", "{in}", "{other}", "--report", "{out}", "--recipe", str(CONFIG), *READ],
    "validate, control": ["validate", "{in}", "{other}", "--control", "{out}", "--recipe", str(CONFIG), *READ],
    "apply-review": ["apply-review", "{in}", "{memory}", "{out}", *READ],
    "score": ["score", "{bundle}", "{in}", "{out}"],
    "evaluate": ["evaluate", "{bundle}", "{in}", "--page", "{out}"],
    "train": ["train", str(CONFIG), "{out}", "--train", "{in}", "--dev", "{memory}"],
}


@pytest.fixture
def place(tmp_path):
    rows = [
        {"id": i, "language": "en", "origin_query": f"cup {i}", "category_path": f"home,cups {i % 5}", "label": i % 2}
        for i in range(20)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "memory.tsv").write_text("en\tde\ncup 1\tTasse 1\n")
    return tmp_path


def run(*arguments, folder, **names):
    names = {"in": folder / "rows.jsonl", "memory": folder / "memory.tsv", "other": folder / "other.jsonl"} | names
    names |= {"bundle": folder / "bundle"}
    filled = [str(part).format(**names) for part in arguments]
    return CliRunner().invoke(build_app(), filled)


def refused(*arguments, folder, **names):
    done = run(*arguments, folder=folder, **names)
    assert isinstance(done.exception, RelevanceError), (done.output, done.exception)
    assert done.exception.exit_code == 2
    return str(done.exception)


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("link", ["same", "symbolic", "hard", "folder", "overwrite"])
def test_an_output_that_is_an_input_is_refused(place, name, link):
    file = place / "rows.jsonl"
    before = file.read_bytes()
    out = file
    if link == "symbolic":
        out = place / "link.jsonl"
        out.symlink_to(file)
    elif link == "hard":
        out = place / "link.jsonl"
        os.link(file, out)
    elif link == "folder":
        (place / "way").symlink_to(place)
        out = place / "way" / "rows.jsonl"
    further = ["--overwrite"]
    message = refused(*COMMANDS[name], *further, folder=place, out=out)
    assert " the input " in message
    assert file.read_bytes() == before
    assert not (place / "other.jsonl").exists()


@pytest.mark.parametrize("name", COMMANDS)
def test_an_output_inside_an_input_folder_is_refused(place, name):
    (place / "parts").mkdir()
    (place / "rows.jsonl").rename(place / "parts" / "part-0.jsonl")
    for source in (place / "parts", place / "parts" / "part-*.jsonl"):
        out = place / "parts" / ("new.jsonl" if source.is_dir() else "part-0.jsonl")
        message = refused(*COMMANDS[name], "--overwrite", folder=place, out=out, **{"in": source})
        assert " the input " in message


@pytest.mark.parametrize("name", COMMANDS)
def test_what_is_there_stays_without_overwrite(place, name):
    out = place / "out.jsonl"
    out.write_text("mine\n")
    message = refused(*COMMANDS[name], folder=place, out=out)
    assert f"output {out}: exists already; expected a new place, or --overwrite" in message
    assert out.read_text() == "mine\n"
    assert not (place / "other.jsonl").exists()


@pytest.mark.parametrize("command", [["pipeline", "run"], ["ablate"]])
def test_a_work_folder_inside_an_input_folder_is_refused(place, command):
    message = refused(*command, CONFIG, place / "out", "--train", place, folder=place)
    assert "lies in the input" in message


def test_a_folder_that_holds_the_input_is_no_output(place):
    assert "holds" in refused("data", "split", "{in}", place, *READ, "--overwrite", folder=place)
    assert (place / "rows.jsonl").exists()


def test_other_things_that_are_read_are_no_outputs_either(place):
    memory = ["translate", "{in}", "{memory}", *TRANSLATE, "--overwrite"]
    assert " the input " in refused(*memory, folder=place)
    (place / "dev_QC.tsv").write_text("query\tcandidate\tlabel\na\tb\t1\n")
    held = ["translate", "{in}", place / "dev_QC.tsv", *TRANSLATE, "--overwrite"]
    assert " the input " in refused(*held, folder=place)
    cache = ["negatives", "{in}", "{other}", "--cache", "{in}", *READ]
    assert " the input " in refused(*cache, folder=place)
    work = ["validate", "{in}", "{other}", "--work", "{in}", "--recipe", CONFIG, *READ]
    assert " the input " in refused(*work, folder=place)
    inside = ["score", "{bundle}", "{in}", place / "bundle" / "out.jsonl"]
    (place / "bundle").mkdir()
    assert "lies in" in refused(*inside, folder=place)
    inside = ["evaluate", "{bundle}", "{in}", "--page", place / "bundle" / "page.html"]
    assert "lies in" in refused(*inside, folder=place)


@pytest.mark.parametrize(
    "arguments",
    [
        ["translate", "{in}", "{other}", "--rejected", "{other}", *TRANSLATE],
        ["translate", "{in}", "{other}", "--report", "{other}", *TRANSLATE],
        ["negatives", "{in}", "{other}", "--report", "{other}", *READ],
        ["validate", "{in}", "{other}", "--control", "{other}", "--recipe", CONFIG, *READ],
        ["score", "{bundle}", "{in}", "{other}", "--submission", "{other}"],
    ],
)
def test_two_outputs_of_one_name_are_refused(place, arguments):
    assert "a place of its own for each" in refused(*arguments, folder=place)


@pytest.mark.parametrize(
    "name", ["clean", "check", "translate", "translate, rejected", "negatives", "validate", "score"]
)
def test_a_name_that_says_no_format_is_refused_before_any_work(place, name):
    assert "unknown file type '.xlsx'" in refused(*COMMANDS[name], folder=place, out=place / "out.xlsx")


@pytest.mark.parametrize(
    ("name", "ending"),
    [
        ("report", ".html"),
        ("evaluate", ".html"),
        ("translate, report", ".json"),
        ("negatives, report", ".json"),
        ("validate, report", ".json"),
    ],
)
def test_the_name_of_a_report_says_what_it_is(place, name, ending):
    message = refused(*COMMANDS[name], folder=place, out=place / "out.csv")
    assert f"output {place / 'out.csv'}: expected a name that ends in {ending}" in message


FORMATS = ["csv", "tsv", "jsonl", "txt", "json", "ndjson", "parquet", "csv.gz", "tsv.zst", "jsonl.gz", "JSONL.ZST"]


@pytest.mark.parametrize("ending", FORMATS)
def test_the_name_of_an_output_is_its_format_and_the_next_command_reads_it(place, ending):
    out = place / f"out.{ending}"
    done = run("data", "clean", "{in}", out, "--tags", "off", *READ, folder=place)
    assert done.exit_code == 0, done.output
    expected = read_pairs(place / "rows.jsonl", Task.QC).rows
    assert read_pairs(out, Task.QC).rows == expected
    content = out.read_bytes()
    assert content.startswith(
        {"gz": b"\x1f\x8b", "zst": b"\x28\xb5\x2f\xfd", "parquet": b"PAR1", "json": b"[", "csv": b"id,"}.get(
            ending.lower().rpartition(".")[2], b""
        )
    )
    assert run("data", "clean", "{in}", out, "--tags", "off", "--overwrite", *READ, folder=place).exit_code == 0
    assert out.read_bytes() == content


def test_tsv_refuses_text_that_it_cannot_hold(place):
    with (place / "rows.jsonl").open("a") as stream:
        row = {"id": 99, "language": "en", "origin_query": "b", "category_path": "c", "label": 1, "note": "a\tb"}
        stream.write(json.dumps(row) + "\n")
    message = refused("data", "clean", "{in}", place / "out.tsv", "--tags", "off", *READ, folder=place)
    assert "'note' holds a tab or a line break, which TSV cannot hold" in message
    assert not (place / "out.tsv").exists()


def relevance(*arguments, content=b""):
    command = [sys.executable, "-c", "from relevance.cli import main; main()", *map(str, arguments)]
    return subprocess.run(command, input=content, capture_output=True, timeout=240, check=False)


def test_rows_go_from_command_to_command(place):
    cleaned = relevance("data", "clean", "-", "-", "--tags", "off", *READ, content=(place / "rows.jsonl").read_bytes())
    assert cleaned.returncode == 0, cleaned.stderr
    assert b"20 rows in, 20 out" in cleaned.stderr
    tiny_bundle(place / "bundle")
    scored = relevance("score", place / "bundle", "-", "-", "--threads", 1, "--device", "cpu", content=cleaned.stdout)
    assert scored.returncode == 0, scored.stderr
    records = [json.loads(line) for line in scored.stdout.splitlines()]
    assert [record["id"] for record in records] == list(range(20))
    assert all(0 < record["score"] < 1 for record in records)
    assert b"20 QC pairs scored" in scored.stderr
    assert sorted(path.name for path in place.iterdir()) == ["bundle", "memory.tsv", "rows.jsonl"]


def test_bad_rows_are_kept_where_the_scores_go_to_standard_output(place, monkeypatch):
    monkeypatch.chdir(place)
    tiny_bundle(place / "bundle")
    bad = b'{"origin_query": "", "category_path": "b"}\n'
    good = b'{"origin_query": "a", "category_path": "b", "language": "en"}\n'
    options = ("--threads", 1, "--device", "cpu", "--skip-bad-rows")
    scored = relevance("score", "bundle", "-", "-", *options, content=good + bad)
    assert scored.returncode == 0, scored.stderr
    assert len(scored.stdout.splitlines()) == 1
    kept = place / "standard-output.bad_rows.standard-input.jsonl"
    assert len(kept.read_text().splitlines()) == 1
    assert kept.name.encode() in scored.stderr


def test_standard_input_is_read_once(place):
    message = refused("train", CONFIG, place / "out", "--train", "-", "--dev", "-", folder=place)
    assert "standard input is named twice" in message


def test_part_files_are_scored_in_order_and_types_stay(place):
    tiny_bundle(place / "bundle")
    (place / "parts").mkdir()
    stamp = pa.array([1_700_000_000_123_456_789], pa.timestamp("ns"))
    for n, query in enumerate(("cup", "")):
        table = {"query": [query or "b"], "candidate": ["home,cups"], "at": stamp, "took": stamp.cast(pa.int64())}
        table |= {"text": pa.array(["a"], pa.large_string()), "length": pa.array([5], pa.duration("ns"))}
        pq.write_table(pa.table(table), place / "parts" / f"part-{n}.parquet")
    done = run("score", "{bundle}", "{in}", place / "out.parquet", folder=place, **{"in": place / "parts"})
    assert done.exit_code == 0, (done.output, done.exception)
    found = pq.read_table(place / "out.parquet")
    assert found.column("query").to_pylist() == ["cup", "b"]
    assert [str(found.schema.field(name).type) for name in ("at", "text", "length")] == [
        "timestamp[ns]",
        "large_string",
        "duration[ns]",
    ]
    assert found.column("at").combine_chunks().equals(pa.concat_arrays([stamp, stamp]))


def test_a_submission_keeps_what_it_holds_without_overwrite(place):
    tiny_bundle(place / "bundle")
    archive = place / "submit.zip"
    write_submission(archive, Task.QI, [("1", 1)])
    first = run("score", "{bundle}", "{in}", place / "a.jsonl", "--submission", archive, folder=place)
    assert first.exit_code == 0, first.exception
    before = archive.read_bytes()
    again = ["score", "{bundle}", "{in}", place / "b.jsonl", "--submission", archive]
    assert "holds submit_QC.txt already" in refused(*again, folder=place)
    assert archive.read_bytes() == before
    assert run(*again, "--overwrite", folder=place).exit_code == 0
    assert sorted(zipfile.ZipFile(io.BytesIO(before)).namelist()) == ["submit_QC.txt", "submit_QI.txt"]


def test_a_place_that_cannot_be_written_is_named_with_the_mend(place):
    tiny_bundle(place / "bundle")
    done = run("score", "{bundle}", "{in}", "/proc/none/out.jsonl", folder=place)
    assert "/proc/none/out.jsonl: cannot be written: No such file" in str(done.exception)
    assert "expected a place that is open to writing" in str(done.exception)


def test_sample_and_split_replace_only_when_asked(place):
    (place / "sample").mkdir()
    (place / "sample" / "SYNTHETIC.txt").write_text("mine")
    assert "exists already" in refused("sample", place / "sample", "--scale", "0.05", folder=place)
    assert (place / "sample" / "SYNTHETIC.txt").read_text() == "mine"


READERS = ["data check", "data clean", "data split", "data report", "translate", "negatives", "validate"]
READERS += ["apply-review", "train", "evaluate", "score", "pipeline run", "ablate"]


@pytest.mark.parametrize("name", READERS)
def test_every_command_that_reads_rows_has_the_options_of_reading(name):
    done = CliRunner(env={"COLUMNS": "300"}).invoke(build_app(), [*name.split(), "--help"])
    for option in ("--column", "--encoding", "--delimiter", "--quotes", "--grades"):
        assert option in done.output


def test_options_of_reading_reach_the_rows(place):
    file = place / "odd.csv"
    file.write_bytes("Begriff;category_path;note\ngröße;home,cups;E\nrot;home,cups;I\n".encode("latin-1"))
    options = ["--column", "begriff=query", "--column", "note=label", "--grades", "E=1,I=0", "--encoding", "latin-1"]
    out = place / "out.jsonl"
    done = run("data", "clean", file, out, "--tags", "off", *options, *READ, folder=place)
    assert done.exit_code == 0, done.exception
    rows = read_pairs(out, Task.QC).rows
    assert [(row.pair.query, row.label, row.extra["grade"]) for row in rows] == [("größe", 1, "E"), ("rot", 0, "I")]
