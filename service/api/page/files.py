"""The files of the pages, read for the first request: HTML, ES modules, CSS, libraries in `static/vendor` (NOTICE)."""

import gzip
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

STATIC = "static"
MEDIA_TYPES: Mapping[str, str] = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "json": "application/json",
    "svg": "image/svg+xml",
    "txt": "text/plain; charset=utf-8",
}


@dataclass(frozen=True, slots=True)
class PageFile:
    """A file as it is sent: its bytes, the same bytes compressed, its media type and its entity tag."""

    content: bytes
    compressed: bytes
    media_type: str
    etag: str


@cache
def page_files() -> Mapping[str, PageFile]:
    """Return the files by their paths below `static`, as `vendor/uplot.css`. Files of other kinds are left out."""
    return {path: _read(file) for path, file in _below(files(__package__) / STATIC, "")}


def _below(folder: Traversable, prefix: str) -> Iterator[tuple[str, Traversable]]:
    for entry in sorted(folder.iterdir(), key=lambda each: each.name):
        if entry.is_dir():
            yield from _below(entry, f"{prefix}{entry.name}/")
        elif entry.name.rpartition(".")[2] in MEDIA_TYPES:
            yield prefix + entry.name, entry


def _read(file: Traversable) -> PageFile:
    content = file.read_bytes()
    kind = MEDIA_TYPES[file.name.rpartition(".")[2]]
    return PageFile(content, gzip.compress(content, mtime=0), kind, f'"{hashlib.sha256(content).hexdigest()[:20]}"')
