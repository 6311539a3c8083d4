"""Wrong inputs as a user would type them: one clear line, the right exit code, never a traceback."""

import importlib.metadata
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from relevance import cli
from relevance.cli import STEPS
from service.settings import Settings
from tests import ROOT
from tests.commands import relevance

ROW = {"id": 1, "task": "QC", "language": "en", "origin_query": "cup", "category_path": "home,cups", "label": 1}
CONFIG = ROOT / "configs" / "qc.toml"


def refused(*arguments, code=2):
    done = relevance(*arguments)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert "error: " in done.stderr
    return done.stderr


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "rows.jsonl"
    rows = [ROW | {"id": i, "origin_query": f"cup {i}", "label": i % 2} for i in range(40)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_help_is_quick_and_names_every_step():
    done = relevance("--help")
    assert done.returncode == 0
    for command in ("sample", "data", "encoder", "train", "evaluate", "export", "verify", "serve"):
        assert command in done.stdout


def test_help_groups_the_commands_in_the_order_of_the_work():
    told = relevance("--help").stdout
    assert [title for title in re.findall(r"─ (\w[\w ]*) ─", told) if title != "Options"] == list(STEPS)
    places = [told.index(f"│ {command} ") for command in ("sample", "train", "export", "score", "settings")]
    assert places == sorted(places)
    assert "Further" not in told


def test_version_is_told():
    assert relevance("--version").stdout == f"relevance {importlib.metadata.version('query-relevance')}\n"


@pytest.mark.parametrize("start", [["-m", "relevance"], [str(Path(sys.executable).parent / "relevance")]])
def test_command_works_from_a_folder_with_packages_of_the_same_names(tmp_path, start):
    for name in ("service", "export", "training"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('a package of the user')")
    for arguments in (["--help"], ["settings"], ["train", "--help"], ["verify", "nothing"]):
        command = [sys.executable, *start, *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
        assert "a package of the user" not in done.stderr
        assert done.returncode == (0 if arguments[0] != "verify" else 3), done.stderr


def test_no_page_names_the_distribution_of_a_stranger():
    root = ROOT
    pages = [root / "README.md", root / "pyproject.toml", root / "Dockerfile", *root.glob("docs/**/*.md")]
    pages += [
        path for folder in ("relevance", "service", "training", "export") for path in (root / folder).rglob("*.py")
    ]
    stranger = re.compile(r"(?<![\w-])relevance\[\w|pip install '?relevance\b|version\(.relevance.\)")
    assert [str(page) for page in pages if stranger.search(page.read_text(encoding="utf-8"))] == []


def test_settings_are_listed_with_default_and_meaning():
    done = relevance("settings")
    assert done.returncode == 0, done.stderr
    for name, field in Settings.model_fields.items():
        assert f"RELEVANCE_{name.upper()} (" in done.stdout
        assert field.description.split()[0] in done.stdout
    assert "RELEVANCE_ADMIN_PORT (absent)\n    port of the admin interface" in done.stdout


@pytest.mark.parametrize("name", ["empty.jsonl", "empty.csv", "empty.parquet"])
def test_an_empty_file(tmp_path, name):
    (tmp_path / name).write_bytes(b"")
    assert name in refused("data", "check", tmp_path / name, "--task", "qc")


def test_a_wrong_column_is_named_with_those_found(tmp_path):
    (tmp_path / "rows.csv").write_text("origin_query,title,label\ncup,red cup,1\n")
    message = refused("data", "check", tmp_path / "rows.csv", "--task", "qc")
    assert "category_path" in message
    assert "title" in message


def test_all_bad_rows_are_named_at_once(tmp_path):
    rows = [ROW, ROW | {"label": 2}, ROW | {"category_path": None}, ROW | {"task": "QI"}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + "{\n")
    message = refused("data", "check", tmp_path / "rows.jsonl", "--task", "qc")
    for part in ("4 bad of 5", "row 2", "label = 2", "row 3", "row 4", "row 5"):
        assert part in message


def test_bad_rows_are_skipped_only_when_asked_and_kept_in_a_file(tmp_path, data):
    with data.open("a") as file:
        file.write('{"label": 7}\n')
    assert "1 bad of 41" in refused("data", "split", data, tmp_path / "out", "--task", "qc")
    done = relevance("data", "split", data, tmp_path / "out", "--task", "qc", "--skip-bad-rows")
    assert done.returncode == 0, done.stderr
    kept = json.loads((tmp_path / "out.bad_rows.rows.jsonl").read_text().splitlines()[0])
    assert kept["row"] == 41
    lines = [n for f in (tmp_path / "out").iterdir() for n in f.read_text().splitlines()]
    assert len(lines) == 40


def test_clean_goes_on_with_the_good_rows_where_asked(tmp_path, data):
    with data.open("a") as file:
        file.write('{"label": 7}\n')
    done = relevance("data", "clean", data, tmp_path / "out.jsonl", "--task", "qc", "--tags", "off", "--skip-bad-rows")
    assert done.returncode == 0, done.stderr
    assert f"1 bad rows skipped, written to {tmp_path / 'out.jsonl.bad_rows.rows.jsonl'}" in done.stderr
    assert (tmp_path / "out.jsonl").read_text().count("\n") == 40


def test_split_shares_that_do_not_add_up(tmp_path, data):
    message = refused("data", "split", data, tmp_path / "out", "--task", "qc", "--dev", "0.7", "--test", "0.6")
    assert "fraction" in message or "split" in message


def test_an_unknown_recipe_key(tmp_path, data):
    files = ("--train", data, "--dev", data)
    message = refused("train", CONFIG, tmp_path / "out", *files, "--set", "training.learnign_rate=1")
    assert "training.learnign_rate" in message


def test_an_unknown_base_model(tmp_path, data):
    files = ("--train", data, "--dev", data)
    message = refused("train", CONFIG, tmp_path / "out", *files, "--base-model", "packaged:nothing")
    assert "packaged:multilingual-e5-small" in message


def test_an_unknown_training_language(tmp_path, data):
    files = ("--train", data, "--dev", data)
    assert "--language sw" in refused("train", CONFIG, tmp_path / "out", *files, "--language", "sw")


def test_missing_folders_are_named(tmp_path):
    assert "card.json" in refused("export", tmp_path / "absent", tmp_path / "bundle", code=3)
    assert "manifest.json" in refused("verify", tmp_path / "absent", code=3)
    assert "no such folder" in refused("serve", "--bundle", f"qc={tmp_path / 'absent'}", code=3)


@pytest.mark.parametrize(
    ("closed", "file", "code", "message"),
    [
        (">&-", "rows.jsonl", 0, ""),
        ("<&-", "-", 2, "error: -: holds no rows"),
        ("<&- >&- 2>&-", "rows.jsonl", 0, ""),
    ],
)
def test_streams_may_be_closed(tmp_path, data, closed, file, code, message):
    command = f'"{sys.executable}" -m relevance data clean {file} {tmp_path}/out.jsonl --task qc --tags off {closed}'
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, "Traceback" in done.stderr) == (code, False)
    assert done.stderr.startswith(message)
    assert (tmp_path / "out.jsonl").exists() == (code == 0)
    if code == 0:
        assert (tmp_path / "out.jsonl").read_text().count("\n") == 40


def test_ctrl_c_while_packages_are_loaded_is_no_traceback(monkeypatch, capsys):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "build_app", interrupted)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert (ended.value.code, capsys.readouterr().err) == (130, "")


def test_a_missing_file(tmp_path):
    assert "absent.jsonl" in refused("data", "check", tmp_path / "absent.jsonl", "--task", "qc")
