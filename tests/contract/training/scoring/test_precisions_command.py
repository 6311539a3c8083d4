"""`relevance precisions`: a checkpoint in each precision, measured, with the bundles kept."""

import json

import pytest

from relevance.model.bundle import Bundle
from tests import commands
from tests.contract.export.test_export import ROWS, checkpoint
from training.scoring.precisions import RESULT_FILE


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return checkpoint(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def rows(source):
    path = source.parent / "rows.jsonl"
    lines = [
        {"id": place, "origin_query": query, "category_path": path_, "language": language, "label": label}
        for place, (query, path_, language, label) in enumerate(ROWS)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def precisions(*arguments):
    return commands.run([*commands.RELEVANCE, "precisions", *arguments])


def test_each_precision_is_measured_and_one_is_recommended(source, rows, tmp_path):
    done = precisions(source, rows, tmp_path / "out", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found == json.loads((tmp_path / "out" / RESULT_FILE).read_text())
    by_precision = {each["precision"]: each for each in found["measured"] if each["runtime"] == "onnxruntime"}
    assert {"fp32", "int8"} <= by_precision.keys()
    assert by_precision["fp32"]["times_fp32"] == 1.0
    assert 0 < by_precision["int8"]["score_shift_p99"] < 0.05
    assert found["recommended"].partition(" ")[0] in {"fp32", "int8", "fp16"}
    assert ("fp16" in found["left_out"]) == ("fp16" not in by_precision)
    for precision in by_precision:
        assert Bundle.open(tmp_path / "out" / precision).manifest.precision == precision


def test_what_is_no_checkpoint_is_named_and_nothing_is_written(rows, tmp_path):
    (tmp_path / "empty").mkdir()
    done = precisions(tmp_path / "empty", rows, tmp_path / "out")
    assert done.returncode > 0
    assert f"{tmp_path / 'empty'}" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_an_output_that_is_there_is_kept(source, rows, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("x")
    done = precisions(source, rows, tmp_path / "out")
    assert "exists already" in done.stderr
    assert (tmp_path / "out" / "mine.txt").read_text() == "x"
