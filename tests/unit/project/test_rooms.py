"""Every package says in its docstring what it is for and what it must not know."""

import ast
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
