"""Bodies that cost more to take in than to send, for every route of an app that takes a body. Used by a test and a
benchmark.

Routes and the names of their lists come from the OpenAPI page, so that a new route is tried too.
"""

import gzip
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

EMOJI = "😀".encode()
LINE = b'{"query": "a", "candidate": "b", '
METHODS = ("post", "put", "patch", "delete")


@dataclass(frozen=True, slots=True)
class Route:
    """A route that takes a body: the start of a valid one up to its list, and whether the body is lines."""

    method: str
    path: str
    name: str
    start: bytes = b""
    lines: bool = False

    def head(self, size: int, *headers: bytes) -> bytes:
        """Return the start of a request with a body of `size` bytes."""
        kind = b"application/x-ndjson" if self.lines else b"application/json"
        lines = [f"{self.method.upper()} {self.path} HTTP/1.1".encode(), b"Host: x", b"Content-Type: " + kind]
        return b"\r\n".join([*lines, b"Content-Length: %d" % size, *headers]) + b"\r\n\r\n"


def routes_of(page: Mapping[str, Any]) -> Iterator[Route]:
    """Yield the routes of an OpenAPI page that take a body; parameters are set to a task."""
    for path, operations in page["paths"].items():
        for method, operation in operations.items():
            if method in METHODS:
                address = path.replace("{task}", "qc").replace("{name}", "qc").replace("{model}", "qc")
                contents = operation.get("requestBody", {}).get("content", {})
                if "application/x-ndjson" in contents:
                    yield Route(method, address + "?task=qc", path, lines=True)
                else:
                    schema = contents.get("application/json", {}).get("schema", {})
                    yield Route(method, address, path, _start(_resolved(schema, page), page))


def _start(schema: Mapping[str, Any], page: Mapping[str, Any]) -> bytes:
    """Return the start of an object of this schema: the fields that must be there, and its first list, opened."""
    fields, needed = schema.get("properties", {}), schema.get("required", [])
    lists = [name for name, field in fields.items() if _has_list(field, page)] or ["list"]
    texts = {name: "a" for name in needed if name not in lists} | ({"task": "qc"} if "task" in fields else {})
    texts |= {"query": "a"} if "query" in fields else {}
    return json.dumps(texts)[:-1].encode() + (b", " if texts else b"") + b'"%s": [' % lists[0].encode()


def _has_list(field: Mapping[str, Any], page: Mapping[str, Any]) -> bool:
    field = _resolved(field, page)
    return field.get("type") == "array" or any(
        _has_list(each, page) for each in field.get("anyOf", field.get("oneOf", ()))
    )


def _resolved(schema: Mapping[str, Any], page: Mapping[str, Any]) -> Mapping[str, Any]:
    if "$ref" in schema:
        return page["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema


def _elements(element: bytes) -> Callable[[bytes, int], bytes]:
    """Return what makes a list of equal elements."""

    def body(start: bytes, size: int) -> bytes:
        count = (size - len(start) - 2) // (len(element) + 1)
        return start + b",".join([element] * count) + b"]}"

    return body


def _keys(value: bytes = b"1") -> Callable[[bytes, int], bytes]:
    def body(start: bytes, size: int) -> bytes:
        keys = b",".join(b'"k%d":%b' % (n, value) for n in range((size - len(start)) // (12 + len(value))))
        return start + b'"b"],' + keys + b"}"

    return body


def _keys_of_element(start: bytes, size: int) -> bytes:
    keys = b",".join(b'"k%d":1' % n for n in range((size - len(start)) // 13))
    return start + b"{" + keys + b"}]}"


def _filled(before: bytes, filling: bytes, after: bytes) -> Callable[[bytes, int], bytes]:
    def body(start: bytes, size: int) -> bytes:
        left = size - len(start) - len(before) - len(after)
        return start + before + filling * (left // len(filling)) + after

    return body


KINDS: Mapping[str, Callable[[bytes, int], bytes]] = {
    "wrong elements": _elements(b"1"),
    "null elements": _elements(b"null"),
    "far too many": _elements(b'"a"'),
    "empty texts": _elements(b'""'),
    "empty lists": _elements(b"[]"),
    "empty objects": _elements(b"{}"),
    "pairs": _elements(b'["a","b"]'),
    "wrong pairs": _elements(b"[1,[2]]"),
    "pair objects": _elements(b'{"query":1}'),
    "deep": _filled(b"", b"[", b""),
    "deep and closed": _elements(b"[" * 500 + b"]" * 500),
    "unknown keys": _keys(),
    "unknown keys of lists": _keys(b"[1,2]"),
    "keys of an element": _keys_of_element,
    "same key": _filled(b'"b"]', b', "query": "a"', b"}"),
    "long number": _filled(b"", b"9", b"]}"),
    "long fraction": _filled(b"1.", b"3", b"]}"),
    "long numbers": _elements(b"7" * 4200),
    "out of range": _elements(b"1e999"),
    "not a number": _elements(b"NaN"),
    "long text": _filled(b'"', b"x", b'"]}'),
    "long wide text": _filled(b'"' + EMOJI, b"x", b'"]}'),
    "long wrong text": _filled(b'1, "', b"x", b'"]}'),
    "escapes": _filled(b'"', b"\\u00e9", b'"]}'),
    "backslashes": _filled(b'"', b"\\\\", b'"]}'),
    "quotes": _filled(b'"', b'\\"', b'"]}'),
    "no unicode": _filled(b'"\xff', b"x", b'"]}'),
    "half surrogates": _elements(b'"\\ud800"'),
    "blanks": _filled(b'"b"', b" ", b"]}"),
    "lines": _filled(b'"b"', b"\n", b"]}"),
    "never ends": _filled(b'"', b"x", b""),
}
LINE_KINDS: Mapping[str, Callable[[int], bytes]] = {
    "unknown keys": lambda size: _lines(LINE + b",".join(b'"k%d":1' % n for n in range(5000)) + b"}", size),
    "deep": lambda size: _lines(LINE + b'"x": ' + b"[" * 60_000, size),
    "deep and closed": lambda size: _lines(LINE + b'"x": ' + b"[" * 190 + b"]" * 190 + b"}", size),
    "list": lambda size: _lines(LINE + b'"x": [' + b"[]," * 20_000 + b"1]}", size),
    "wrong lines": lambda size: b"1\n" * (size // 2),
    "blank lines": lambda size: b"\n" * size,
    "long number": lambda size: _lines(LINE + b'"id": ' + b"9" * 60_000 + b"}", size),
    "long text": lambda size: _lines(LINE + b'"id": "' + b"x" * 60_000 + b'"}', size),
    "quotes": lambda size: _lines(LINE + b'"id": "' + b'\\"' * 30_000 + b'"}', size),
    "same key": lambda size: _lines(LINE + b", ".join([b'"id": 1'] * 6000) + b"}", size),
    "no unicode": lambda size: _lines(LINE + b'"id": "\xff"}', size),
    "one line": lambda size: b"x" * size,
}


def _lines(line: bytes, size: int) -> bytes:
    return (line + b"\n") * max(1, size // (len(line) + 1))


def bodies(route: Route, size: int) -> Iterator[tuple[str, bytes]]:
    """Yield the kinds of bodies for a route, each of about `size` bytes."""
    if route.lines:
        yield from ((kind, make(size)) for kind, make in LINE_KINDS.items())
    else:
        yield from ((kind, make(route.start, size)) for kind, make in KINDS.items())


def bomb(size: int) -> bytes:
    """Return `size` blanks as gzip, a thousandth of that."""
    return gzip.compress(b" " * size, mtime=0)
