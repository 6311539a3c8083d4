"""`validate` and `apply-review` as a user runs them: in a process of its own, which may be killed."""

import json
import re
import signal
import sys

import pytest

from tests import commands
from tests.dying import dying
from tests.models import tiny_model

# The two commands under the error handling of `relevance`, whatever else that registers.
COMMAND = """
import sys
import typer
from relevance.errors import RelevanceError
from training.commands.rows.validate import apply_review, validate
app = typer.Typer()
app.command()(validate)
app.command("apply-review")(apply_review)
try:
    app()
except RelevanceError as error:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(error.exit_code)
"""
RECIPE = """
name = "tiny"
task = "qc"
base_model = "{base}"
[training]
epochs = 1
batch_size = 16
evaluations = 1
learning_rate = 2e-3
"""


def command(*arguments):
    return [sys.executable, "-c", COMMAND, *map(str, arguments)]


def run(*arguments):
    return commands.run(command(*arguments))


def done(*arguments):
    found = run(*arguments)
    assert found.returncode == 0, found.stderr
    return found.stdout


def refused(*arguments, code=2):
    found = run(*arguments)
    assert found.returncode == code, found.stderr
    assert "Traceback" not in found.stderr
    return found.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("validate")
    base = tiny_model(folder / "base")
    (folder / "recipe.toml").write_text(RECIPE.format(base=base))
    records = [
        {"id": i, "language": "en", "origin_query": f"cup {i}", "category_path": "home,cups", "label": i % 2, "note": i}
        for i in range(80)
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder


def arguments(folder, out, limits=("max_share=0.25", "least_auc=0")):
    given = ("validate", folder / "rows.jsonl", out, "--task", "qc", "--recipe", folder / "recipe.toml", "--folds", "2")
    options = [word for each in ("band=0.9", "worst_share=0.25", *limits) for word in ("--option", each)]
    return *given, "--action", "drop", "--method", "boundary", *options


def ids(path):
    return [json.loads(line)["id"] for line in path.read_text().splitlines()]


def test_dropping_reviewing_and_the_control_fit_together(folder, tmp_path):
    files = {name: tmp_path / name for name in ("report.json", "review.html", "control.jsonl")}
    further = [item for name, path in files.items() for item in (f"--{path.stem}", path)]
    printed = json.loads(done(*arguments(folder, tmp_path / "out.jsonl"), *further, "--json"))
    assert printed == json.loads(files["report.json"].read_text())
    assert printed["actions"] == {"dropped": 20}
    assert len(ids(tmp_path / "out.jsonl")) == len(ids(files["control.jsonl"])) == 60
    table = tmp_path / "review.csv"
    lines = table.read_text(encoding="utf-8-sig").splitlines()
    table.write_text("\n".join([lines[0], *(re.sub(r"^(\d+,\d,\w+),,", r"\1,drop,", line) for line in lines[1:])]))
    left = json.loads(
        done("apply-review", folder / "rows.jsonl", table, tmp_path / "reviewed.jsonl", "--task", "qc", "--json")
    )
    assert left["decisions"] == {"drop": 20}
    assert ids(tmp_path / "reviewed.jsonl") == ids(tmp_path / "out.jsonl")


def test_nothing_is_deleted_unless_asked_for(folder, tmp_path):
    given = [word for word in map(str, arguments(folder, tmp_path / "out.jsonl")) if word not in ("--action", "drop")]
    printed = json.loads(done(*given, "--json"))
    assert (printed["actions"], printed["rounds"][0]["flagged"]) == ({}, 20)
    assert len(ids(tmp_path / "out.jsonl")) == 80
    assert len((tmp_path / "out.jsonl.review.csv").read_text(encoding="utf-8-sig").splitlines()) == 21


def test_weak_judges_are_refused_and_flags_beyond_the_cap_spared(folder, tmp_path):
    out = tmp_path / "out.jsonl"
    assert "below least_auc 0.99" in refused(*arguments(folder, out, ["least_auc=0.99"]))
    assert not out.exists()
    printed = json.loads(done(*arguments(folder, out, ["least_auc=0"]), "--json"))
    assert (printed["actions"], printed["rounds"][0]["spared"]) == ({"dropped": 8}, 12)
    assert len(ids(out)) == 72
    done(*arguments(folder, out, ["least_auc=0"]), "--action", "soften", "--overwrite")
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(rows) == 80
    assert all(abs(row["label_share"] - row["label"]) <= 0.3 for row in rows)


def test_a_killed_run_goes_on_to_the_same_file(folder, tmp_path):
    killed = dying(command(*arguments(folder, tmp_path / "a.jsonl")), "*/scores/*.npz", 1)
    assert commands.run(killed).returncode == -signal.SIGKILL
    assert len(list((tmp_path / "a.jsonl.validation" / "scores").glob("*.npz"))) == 1
    assert not (tmp_path / "a.jsonl").exists()
    done(*arguments(folder, tmp_path / "a.jsonl"))
    done(*arguments(folder, tmp_path / "b.jsonl"))
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()


def test_wrong_input_is_named(folder, tmp_path):
    out, rows = tmp_path / "out.jsonl", folder / "rows.jsonl"
    given = arguments(folder, out)
    assert "rows are held out" in refused(*given, "--keep-out", rows)
    assert "judges of two kinds" in refused(*given, "--action", "relabel")
    assert "is the input" in refused(*arguments(folder, rows), "--overwrite")
    assert "margn" in refused(*given, "--option", "margn=1")
    assert "ends in .html" in refused(*given, "--review", tmp_path / "x.csv")
    assert "is a control of" in refused(*given, "--action", "review", "--control", tmp_path / "c.jsonl")
    (tmp_path / "decisions.csv").write_text("id,label,decision\n1,1,burn\n")
    assert "'burn'" in refused("apply-review", rows, tmp_path / "decisions.csv", out, "--task", "qc")
    assert not out.exists()
