"""`relevance score` as a user runs it: in a process of its own, which may be killed."""

import csv
import json
import shutil
import signal
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from relevance.model.bundle import MODEL_FILE
from relevance.tasks import Task
from tests.dying import dying
from tests.tiny import tiny_bundle

COMMAND = "from relevance.cli import main; main()"
SHARD_ROWS, SHARDS = 20, 12


def command(*arguments):
    return [sys.executable, "-c", COMMAND, "score", *map(str, arguments), "--threads", "1", "--device", "cpu"]


def score(*arguments):
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=120, check=False)


def refused(*arguments, code=2):
    done = score(*arguments)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def write_rows(path, count=12, candidate="category_path", **extra):
    rows = [
        {
            "id": i,
            "language": ("en", "ja")[i % 2],
            "origin_query": ("zapatos", "WXYZ", "red cup")[i % 3] + f" {i}",
            candidate: "home,cups" + "!" * (i % 7),
        }
        for i in range(count)
    ]
    path.write_text("".join(json.dumps(row | extra) + "\n" for row in rows))
    return path


def records(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles")
    for task in Task:
        tiny_bundle(folder / task.value, task)
    return folder


def test_scores_and_reports(bundles, tmp_path):
    file, out = write_rows(tmp_path / "in.jsonl", colour="red"), tmp_path / "new" / "out.jsonl"
    done = score(bundles / "qc", file, out)
    assert done.returncode == 0, done.stderr
    assert "12 QC pairs scored" in done.stdout
    assert [(r["id"], r["colour"]) for r in records(out)] == [(i, "red") for i in range(12)]
    assert [path.name for path in out.parent.iterdir()] == ["out.jsonl"]


def test_prints_one_object_when_asked(bundles, tmp_path):
    file = write_rows(tmp_path / "in.jsonl")
    done = score(bundles / "qc", file, tmp_path / "out.csv", "--json")
    report = json.loads(done.stdout)
    assert (report["rows"], report["resumed"], report["task"], report["device"]) == (12, 0, "qc", "cpu")
    with (tmp_path / "out.csv").open(newline="") as stream:
        labels = [row["label_predicted"] for row in csv.DictReader(stream)]
    assert report["positive"] == labels.count("1") > 0


def test_both_tasks_go_into_one_submission(bundles, tmp_path):
    qc, qi = write_rows(tmp_path / "qc.jsonl"), write_rows(tmp_path / "qi.jsonl", 5, "item_title")
    for task, file in (("qc", qc), ("qi", qi)):
        done = score(bundles / task, file, tmp_path / f"{task}.csv", "--submission", tmp_path / "submit.zip")
        assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(tmp_path / "submit.zip") as archive:
        found = {name: list(map(json.loads, archive.read(name).splitlines())) for name in archive.namelist()}
    assert [line["id"] for line in found["submit_QI.txt"]] == list(range(5))
    score(bundles / "qc", qc, tmp_path / "qc.jsonl.out.jsonl")
    labels = [record["label_predicted"] for record in records(tmp_path / "qc.jsonl.out.jsonl")]
    assert found["submit_QC.txt"] == [{"id": i, "prediction": label} for i, label in enumerate(labels)]
    assert set(labels) == {0, 1}


def test_a_submission_has_no_place_for_other_documents(bundles, tmp_path):
    file = write_rows(tmp_path / "rows.jsonl", candidate="document")
    message = refused(bundles / "rerank", file, tmp_path / "out.csv", "--submission", tmp_path / "submit.zip")
    assert "the model is for task rerank; expected qc or qi" in message
    assert score(bundles / "rerank", file, tmp_path / "out.csv").returncode == 0


def test_a_submission_that_is_no_submission_stops_the_run_at_once(bundles, tmp_path):
    file = write_rows(tmp_path / "in.jsonl")
    (tmp_path / "submit.zip").write_text("mine")
    message = refused(bundles / "qc", file, tmp_path / "out.csv", "--submission", tmp_path / "submit.zip")
    assert "submit.zip" in message
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize("name", ["in.jsonl", "in.csv"])
def test_a_file_of_the_other_task_is_refused(bundles, tmp_path, name):
    file = write_rows(tmp_path / "in.jsonl", candidate="item_title", task="QI")
    if name == "in.csv":
        file = tmp_path / name
        file.write_text("origin_query,item_title\ncup,red cup\n")
    message = refused(bundles / "qc", file, tmp_path / "out.jsonl")
    assert "column 'category_path' is missing" in message
    assert "item_title" in message
    assert f"bundle {bundles / 'qc'}" in message


def test_a_missing_column_is_named_with_those_found(bundles, tmp_path):
    (tmp_path / "in.tsv").write_text("keyword\tcategory_path\ncup\thome,cups\n")
    message = refused(bundles / "qc", tmp_path / "in.tsv", tmp_path / "out.jsonl")
    assert "column 'origin_query' is missing; columns found: 'keyword', 'category_path'" in message


def test_a_damaged_bundle_is_refused(bundles, tmp_path):
    shutil.copytree(bundles / "qc", tmp_path / "qc")
    model = tmp_path / "qc" / MODEL_FILE
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    model.write_bytes(content)
    message = refused(tmp_path / "qc", write_rows(tmp_path / "in.jsonl"), tmp_path / "out.jsonl", code=3)
    assert "model.onnx has sha256" in message


def test_what_is_missing_or_in_the_way_is_named(bundles, tmp_path):
    file = write_rows(tmp_path / "in.jsonl")
    assert "manifest.json" in refused(tmp_path / "absent", file, tmp_path / "out.jsonl", code=3)
    assert "absent.jsonl" in refused(bundles / "qc", tmp_path / "absent.jsonl", tmp_path / "out.jsonl")
    assert "'.xlsx'" in refused(bundles / "qc", file, tmp_path / "out.xlsx")
    (tmp_path / "out.jsonl").touch()
    assert "exists already" in refused(bundles / "qc", file, tmp_path / "out.jsonl")
    assert score(bundles / "qc", file, tmp_path / "out.jsonl", "--overwrite").returncode == 0


def test_bad_rows_are_named_or_skipped(bundles, tmp_path):
    file = write_rows(tmp_path / "in.jsonl")
    with file.open("a") as stream:
        stream.write('{"origin_query": "x", "category_path": ""}\n{\n')
    message = refused(bundles / "qc", file, tmp_path / "out.jsonl")
    assert all(part in message for part in ("2 bad of 14 rows", "row 13", "row 14"))
    done = score(bundles / "qc", file, tmp_path / "out.jsonl", "--skip-bad-rows")
    assert "2 bad rows left out" in done.stdout
    assert len(records(tmp_path / "out.jsonl")) == 12
    assert [record["row"] for record in records(tmp_path / "out.jsonl.bad_rows.in.jsonl")] == [13, 14]


def killed_at_the_sixth_shard(arguments, work):
    """Start a run that ends by signal 9 as the sixth shard is about to be there, and return the five before."""
    run = dying(command(*arguments), "*/shard-*", 5)
    assert subprocess.run(run, capture_output=True, timeout=300, check=False).returncode == -signal.SIGKILL
    return sorted(work.glob("shard-*"))


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_a_killed_run_goes_on_and_ends_with_the_bytes_of_one_left_alone(tmp_path, suffix):
    tiny_bundle(tmp_path / "bundle")
    file = write_rows(tmp_path / "in.jsonl", SHARD_ROWS * SHARDS)
    out, marked, alone = (tmp_path / name / f"out.{suffix}" for name in ("killed", "marked", "alone"))
    options = ("--shard-rows", SHARD_ROWS, "--json")
    work = out.parent / f".{out.name}.work"
    finished = killed_at_the_sixth_shard((tmp_path / "bundle", file, out, *options), work)
    assert len(finished) == 5
    assert not out.exists()
    shutil.copytree(work, marked.parent / work.name)

    done = score(tmp_path / "bundle", file, out, *options)
    assert json.loads(done.stdout)["resumed"] == len(finished) * SHARD_ROWS
    assert score(tmp_path / "bundle", file, alone, *options).returncode == 0
    assert out.read_bytes() == alone.read_bytes()
    assert [path.name for path in out.parent.iterdir()] == [out.name]

    if suffix == "jsonl":  # finished shards are used, not made again: a score that no model gave comes through
        for path in (marked.parent / work.name).glob("shard-*"):
            kept = np.load(path)
            kept["score"] = 0.125
            np.save(path, kept)
        assert score(tmp_path / "bundle", file, marked, *options).returncode == 0
        scores = [record["score"] for record in records(marked)]
        assert scores.count(0.125) == len(finished) * SHARD_ROWS
        assert 0.125 not in scores[len(finished) * SHARD_ROWS :]
