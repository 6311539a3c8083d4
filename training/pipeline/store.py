"""The results of stages, each in a folder that is named by all that the result depends on and is whole or absent.

A result's key is the hash of its Ingredients: the stage's options, the contents that went in, its source and the
versions of its packages. So a rerun finds what it needs and makes the rest; and where a changed option changed no row,
the stages after it are found again too.
"""

import contextlib
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from relevance.errors import InputError
from relevance.model.card import explain
from relevance.storage.files import publish_folder, sha256_of, writing
from relevance.storage.locks import output_lock
from relevance.storage.outputs import write_text
from training.data.provenance import content_of, now, source_commit

MANIFEST = "manifest.json"
_SHOWN_KEY = 16


class Manifest(BaseModel):
    """The content of a stage's folder and its origin. `inputs` are keys or content hashes by name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: str
    key: str
    options: dict[str, Any]
    inputs: dict[str, str]
    source: str
    packages: dict[str, str]
    files: dict[str, str]  # sha256 by name; of folders (checkpoints, bundles) the files within are not listed
    report: dict[str, Any]
    seconds: float
    created: str
    source_commit: str


@dataclass(frozen=True, slots=True)
class Ingredients:
    """All that a stage's result depends on: options, inputs by content, source digest and package versions."""

    stage: str
    options: dict[str, Any]
    inputs: dict[str, str]
    source: str = ""
    packages: dict[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The hash of them all."""
        content = json.dumps([self.stage, self.options, self.inputs, self.source, self.packages], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Result:
    """A finished stage: its folder and manifest."""

    folder: Path
    manifest: Manifest

    def file(self, name: str) -> Path:
        """Return the path of one of its files or folders."""
        return self.folder / name


Make = Callable[[Path], Mapping[str, Any]]  # writes into a folder, returns the report


class Store:
    """The results under one folder. `made` and `found` list the stages of this process, in their order."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made: list[str] = []
        self.found: list[str] = []
        self._seconds = 0.0  # of the stages in `made`

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for this process. MachineError where another one has it."""
        with output_lock(self.folder, self.folder / ".lock"):
            yield

    def get(self, stage: str, key: str) -> Result | None:
        """Return a result, None where there is none. InputError where its manifest is damaged or a file has changed."""
        folder = self._place(stage, key)
        if not folder.is_dir():
            return None
        manifest = read_manifest(folder)
        for name, digest in manifest.files.items():
            if content_of(folder / name) != digest:
                raise InputError(f"stage {folder}: {name} is not as it was made; remove the folder to make it anew")
        return Result(folder, manifest)

    def run(self, ingredients: Ingredients, make: Make) -> Result:
        """Return the result; `make` makes it where it is missing.

        `make` gets a folder that stays between interrupted runs of the same key, so that it can continue. It may make
        other results, whose time does not count as that of this one.
        """
        stage, key = ingredients.stage, ingredients.key
        if (result := self.get(stage, key)) is not None:
            self.found.append(stage)
            return result
        work = self.folder / "work" / f"{stage}-{key[:_SHOWN_KEY]}"
        with writing(work):
            work.mkdir(parents=True, exist_ok=True)
        for leftover in work.glob(".*"):  # half-written files of a killed run
            if leftover.is_file():
                leftover.unlink()
        begun = time.monotonic() - self._seconds
        report = make(work)
        seconds = time.monotonic() - self._seconds - begun
        manifest = Manifest(
            stage=stage,
            key=key,
            options=ingredients.options,
            inputs=ingredients.inputs,
            source=ingredients.source,
            packages=ingredients.packages,
            files={path.name: sha256_of(path) for path in sorted(work.iterdir()) if path.is_file()},
            report=dict(report),
            seconds=round(seconds, 2),
            created=now(),
            source_commit=source_commit(),
        )
        write_text(work / MANIFEST, manifest.model_dump_json(indent=2) + "\n")
        place = self._place(stage, key)
        publish_folder(work, place)
        self.made.append(stage)
        self._seconds += seconds
        return Result(place, manifest)

    def link(self, name: str, target: Path) -> Path:
        """Let `name` in the folder lead to a part of a result, and return its path; `target` where no link can be made.

        A link of an earlier run is replaced. Anything else of that name stays.
        """
        place = self.folder / name
        if place.exists() and not place.is_symlink():
            return target
        beside = self.folder / "work" / f"link-{name}"
        try:
            beside.parent.mkdir(parents=True, exist_ok=True)
            beside.unlink(missing_ok=True)
            beside.symlink_to(target.relative_to(self.folder))
            beside.replace(place)
        except OSError:  # a file system without links
            return target
        return place

    def drop(self, result: Result, part: str = "") -> None:
        """Remove a result, or a folder in it, to save room; a run that needs it makes it again."""
        folder = result.folder / part
        if not folder.is_dir():
            return
        aside = self.folder / "work" / f"dropped-{result.folder.name}"
        shutil.rmtree(aside, ignore_errors=True)
        folder.rename(aside)  # whole or not there at all, also when killed
        shutil.rmtree(aside, ignore_errors=True)

    def _place(self, stage: str, key: str) -> Path:
        return self.folder / "stages" / f"{stage}-{key[:_SHOWN_KEY]}"


def read_manifest(folder: Path) -> Manifest:
    """Read a stage's manifest. InputError where it is missing or damaged."""
    path = folder / MANIFEST
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InputError(f"stage {folder}: {MANIFEST} cannot be read ({error.strerror}); remove the folder") from None
    except ValidationError as error:
        raise InputError(f"stage {folder}: {MANIFEST}: {explain(error)}; remove the folder") from None
