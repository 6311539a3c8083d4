"""The README's commands, run as they are written, one after the other, in a folder of the synthetic sample.

The files have the names that the README gives them. The recipe is the shipped one over a tiny encoder.
"""

import csv
import os
import re
import shlex
import signal
from dataclasses import replace

import pytest

from relevance.tasks import Task, query_key
from tests import ROOT, commands
from tests.models import tiny_model
from tests.serving import Process
from training.data.dataset import read_pairs
from training.sample.generate import SampleSettings, generate
from training.sample.shop import load_shop

COMMANDS = re.findall(r"^relevance .*$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
FIELDS = ["id", "language", "origin_query", "category_path", "label", "source_id"]


def write_rows(path):
    """Write sample rows in English and Polish, a third of the Polish ones as translations of English ones."""
    parts = generate(Task.QC, SampleSettings(0, 0.1), load_shop())
    rows = [row for part in parts.values() for row in part if row.pair.language in ("en", "pl")]
    rows = [row for at, row in enumerate(rows) if row.label or at % 3 == 0]  # so that negatives are wanted
    rows = [replace(row, id=str(at)) for at, row in enumerate(rows, start=1)]
    english = [row for row in rows if row.pair.language == "en"]
    polish = [row for row in rows if row.pair.language == "pl"]
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, FIELDS)
        writer.writeheader()
        for row in [*english, *polish]:
            made = row.pair.language == "pl" and polish.index(row) % 3 == 0
            source = english[polish.index(row)].id if made else ""
            values = (row.id, row.pair.language, row.pair.query, row.pair.candidate, row.label, source)
            writer.writerow(dict(zip(FIELDS, values, strict=True)))
    return english, polish


def write_memory(path, english, polish):
    """Write a memory; every tenth translation is a Polish query of the rows, which may be one of dev."""
    lines = ["en\tpl"]
    for at, query in enumerate(dict.fromkeys(row.pair.query for row in english)):
        leaks = at % 10 == 0 and not any(map(str.isdigit, query))
        lines.append(f"{query}\t{polish[at % len(polish)].pair.query if leaks else f'{query} dla domu'}")
    path.write_text("\n".join(lines), encoding="utf-8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("readme")
    write_memory(folder / "tm.tsv", *write_rows(folder / "rows.csv"))
    recipe = (ROOT / "configs" / "qc.toml").read_text(encoding="utf-8")
    base = tiny_model(folder / "tiny")
    for shipped, small in (
        ('base_model = "packaged:multilingual-e5-small"', f'base_model = "{base}"'),
        ("layers = 6", "layers = 2"),
    ):
        assert shipped in recipe
        recipe = recipe.replace(shipped, small)
    (folder / "configs").mkdir()
    (folder / "configs" / "qc.toml").write_text(recipe, encoding="utf-8")
    return folder


def run(command, folder, monkeypatch):
    """Run one line of the README in the folder; a service is stopped once it is ready."""
    _, *arguments = shlex.split(command)
    monkeypatch.chdir(folder)
    main = [*commands.RELEVANCE, *arguments]
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    if arguments[0] == "serve":
        service = Process({}, main)
        try:
            service.wait_ready()
        finally:
            assert service.end(signal.SIGTERM) == 0
        return
    done = commands.run(main, timeout=400)
    assert done.returncode == 0, f"{command}\n{done.stderr}"


def training_file():
    (command,) = [shlex.split(line) for line in COMMANDS if line.startswith("relevance train ")]
    return command[command.index("--train") + 1]


def roots(rows):
    """Return the id that each row goes back to over its sources, by the row's id."""
    sources = {row.id: str(row.extra["source_id"]) for row in rows if row.extra.get("source_id")}
    found = {}
    for row in rows:
        name = row.id
        while name in sources:
            name = sources[name]
        found[row.id] = name
    return found


def test_the_commands_carry_on_from_one_another_and_leak_nothing(folder, monkeypatch):
    assert len(COMMANDS) >= 10
    for command in COMMANDS:
        run(command, folder, monkeypatch)
    train = read_pairs(folder / training_file(), Task.QC).rows
    assert {row.extra.get("source") for row in train} >= {None, "translation", "negative"}
    for part in ("dev", "test"):
        held = read_pairs(folder / "data" / f"{part}_QC.txt", Task.QC).rows
        keys = {query_key(row.pair.query) for row in held}
        assert not keys & {query_key(row.pair.query) for row in train}
        origins = roots([*train, *held])
        assert not {origins[row.id] for row in held} & {origins[row.id] for row in train}
