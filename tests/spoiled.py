"""Spoils a bundle in one of many ways, and opens it as the service does. Used by a test and a benchmark."""

import functools
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

from relevance.model.bundle import GOLDEN_FILE, MANIFEST_FILE, MODEL_FILE, Bundle
from relevance.model.card import TOKENIZER_FILE
from relevance.model.prior import PRIOR_FILE

FILES = (MODEL_FILE, TOKENIZER_FILE, GOLDEN_FILE, PRIOR_FILE, MANIFEST_FILE)
CLIMBING = ("../outside.txt", "/etc/passwd", "..", "a/../../outside.txt", "\0", ".", "", "a" * 5000, "C:\\x", "~")
ODD = (None, True, -1, 0, 10**30, 1e308, float("nan"), float("inf"), "", "\ud800", [], {}, [[]], {"a": []}, *CLIMBING)
ENCODINGS = ("utf-16", "utf-8-sig", "latin-1", "utf-32")


def odd_value(rng: Random) -> Any:
    """Return a value that is likely to be wrong wherever it stands."""
    if rng.random() < 0.1:
        nested: Any = 1
        for _ in range(rng.choice((10, 900, 960, 985))):
            nested = [nested] if rng.random() < 0.5 else {"a": nested}
        return nested
    return rng.choice(ODD)


def change_json(rng: Random, value: Any, depth: int = 0) -> Any:
    """Return JSON with one place changed: another value, a key less, a key more, a key renamed."""
    if isinstance(value, dict) and value and (depth == 0 or rng.random() < 0.7):
        key, how = rng.choice(sorted(value)), rng.random()
        rest = {name: each for name, each in value.items() if name != key}
        if how < 0.1:
            return rest
        if how < 0.2:
            return value | {rng.choice(CLIMBING): odd_value(rng)}
        if how < 0.3:
            return rest | {rng.choice(CLIMBING): value[key]}
        return value | {key: change_json(rng, value[key], depth + 1)}
    if isinstance(value, list) and value and rng.random() < 0.5:
        place = rng.randrange(len(value))
        return [*value[:place], change_json(rng, value[place], depth + 1), *value[place + 1 :]]
    return odd_value(rng)


def spoil_json(folder: Path, name: str, rng: Random) -> None:
    """Change some places of a file of JSON, or of JSON lines."""
    lines = (folder / name).read_text(encoding="utf-8").splitlines() if name == GOLDEN_FILE else [""]
    for _ in range(rng.choice((1, 1, 3))):
        if name != GOLDEN_FILE:
            changed = json.dumps(change_json(rng, json.loads((folder / name).read_text(encoding="utf-8"))))
            (folder / name).write_text(changed, encoding="utf-8")
        else:
            place = rng.randrange(len(lines))
            lines[place] = json.dumps(change_json(rng, json.loads(lines[place])))
    if name == GOLDEN_FILE:
        (folder / name).write_text("\n".join(lines * rng.choice((1, 1, 3000))), encoding="utf-8")


def spoil_bytes(folder: Path, name: str, rng: Random) -> None:
    """Cut off, flip, double, recode or blow up a file."""
    path, data = folder / name, (folder / name).read_bytes()
    place, how = rng.randrange(len(data)), rng.randrange(7)
    if how == 0:
        data = data[:place]
    elif how == 1:
        data = data[:place] + bytes([rng.randrange(256)]) + data[place + 1 :]
    elif how == 2:
        data += rng.choice((data, b"\0" * 100, b"\xff\xfe", b"{"))
    elif how == 3:
        data = data[:place] + rng.choice((b"\xff", b"\xed\xa0\x80", b"\0", b"\n", b"NaN", b"9" * 5000)) + data[place:]
    elif how == 4 and name != MODEL_FILE:
        data = data.decode("utf-8", "replace").encode(rng.choice(ENCODINGS), "replace")
    elif how == 5:
        data = b"[" * rng.choice((10, 100_000))
    path.write_bytes(data)
    if how == 6:
        os.truncate(path, 64 * 1024 * 1024 + rng.choice((0, 1)))  # sparse: takes no room on the disk


def spoil_place(folder: Path, name: str, rng: Random) -> None:
    """Put something else in the place of a file: nothing, a folder, a pipe, a link out of the bundle or in a circle."""
    path, outside, how = folder / name, folder.parent / "outside.txt", rng.randrange(6)
    outside.write_bytes(path.read_bytes() if how < 4 else b"{}")
    path.unlink()
    if how == 1:
        path.mkdir()
    elif how == 2:
        os.mkfifo(path)
    elif how == 3:
        path.symlink_to(rng.choice((outside, Path("..") / outside.name)))
    elif how == 4:
        path.symlink_to(rng.choice((path.name, "nothing", "/etc/passwd", "/dev/zero")))
    elif how == 5:
        (folder / "real").write_bytes(outside.read_bytes())
        path.symlink_to("real")


def seal(folder: Path) -> None:
    """Make hashes and digest right again where that is possible, so that what comes after them is reached."""
    try:
        manifest = json.loads((folder / MANIFEST_FILE).read_bytes())
        for name in (each for each in FILES[:-1] if (folder / each).is_file()):
            manifest["sha256"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        rest = {key: value for key, value in manifest.items() if key != "digest"}
        content = json.dumps(rest, sort_keys=True, ensure_ascii=False).encode("utf-8", "surrogatepass")
        manifest["digest"] = hashlib.sha256(content).hexdigest()
        (folder / MANIFEST_FILE).write_text(json.dumps(manifest), encoding="utf-8")
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return


def spoil(folder: Path, rng: Random) -> str:
    """Spoil a bundle and say how."""
    how: Callable[[Path, str, Random], None] = rng.choice((spoil_json, spoil_json, spoil_bytes, spoil_place))
    held = [name for name in FILES if (folder / name).is_file()]
    name = rng.choice(held[1:] if how is spoil_json else held)
    how(folder, name, rng)
    sealed = how is not spoil_place and rng.random() < 0.7
    if sealed:
        seal(folder)
    return f"{how.__name__} {name}{' sealed' if sealed else ''}"


def read(folder: Path) -> None:
    """Open a bundle and its tokeniser and use both, as the service does at start. Raises RelevanceError."""
    bundle = Bundle.open(folder)
    bundle.inputs().encode([golden.pair for golden in bundle.golden[:10]])
    bundle.check_golden([golden.logit for golden in bundle.golden])


_collecting: list[list[str]] = []


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if event in ("open", "os.listdir", "os.remove", "os.rename", "os.mkdir"):
        for found in _collecting:
            found.append(str(arguments[0]))


@functools.cache
def _hook() -> None:
    sys.addaudithook(_note)  # for the whole process, and for good


@contextmanager
def files_opened() -> Iterator[list[str]]:
    """Collect what Python opens or changes meanwhile."""
    _hook()
    found: list[str] = []
    _collecting.append(found)
    try:
        yield found
    finally:
        _collecting.remove(found)


def strays(folder: Path, opened: list[str]) -> list[str]:
    """Return what of the opened files is neither of the bundle nor Python's own."""
    inside = folder.resolve()
    return [
        each
        for each in opened
        if not Path(each).resolve().is_relative_to(inside) and not each.endswith((".py", ".pyc"))
    ]
