"""Every package says what it is for and what it must not know, and is on the map. Files and functions are short."""

import ast
from collections import Counter
from pathlib import Path

import pytest

from tests import ROOT

ROOMS = [path for name in ("relevance", "training", "export", "service") for path in (ROOT / name).rglob("__init__.py")]


@pytest.mark.parametrize("path", ROOMS, ids=lambda path: path.parent.relative_to(ROOT).as_posix())
def test_room_says_what_it_is_for_and_must_not_know(path):
    purpose, _, limits = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n\n")
    assert "\n" not in purpose
    assert purpose.endswith(".")
    assert limits.startswith("Must not ")


@pytest.mark.parametrize("path", ROOMS, ids=lambda path: path.parent.relative_to(ROOT).as_posix())
def test_room_is_on_the_map(path):
    room = path.parent.relative_to(ROOT)
    place = room if len(room.parts) == 1 else Path(*room.parts[:2])
    assert f"`{place.as_posix()}`" in (ROOT / "docs/architecture.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("room", ["relevance", "training", "export", "service"])
def test_files_and_functions_are_short(room):
    long = []
    for path in (ROOT / room).rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        long += [str(path)] if text.count("\n") > 300 else []
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                parameters = sum(each.arg not in ("self", "cls") for each in given)
                is_command = path.name == "cli.py"  # its parameters are options
                if node.end_lineno - node.lineno >= 60 or (parameters > 6 and not is_command):
                    long.append(f"{path}:{node.lineno} {node.name}")
    assert long == []


@pytest.mark.parametrize(
    "top", ["relevance", "training", "export", "service", "benchmarks", "tests/contract", "deploy"]
)
def test_no_room_has_more_than_14_files(top):
    found = Counter(path.parent for path in (ROOT / top).rglob("*.py"))
    assert [folder for folder, files in found.items() if files > 14] == []
