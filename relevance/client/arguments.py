"""Checks the arguments of `relevance.client` before anything is sent. Every fault is a ConfigError. Knows no network.

A message never holds a secret: no part of an API key, and neither user nor query of a URL.
"""

import re
from collections.abc import Iterable, Mapping
from typing import TypeVar
from urllib.parse import urlsplit

from relevance.errors import ConfigError
from relevance.requestid import REQUEST_ID
from relevance.secrets import bearer
from relevance.tasks import Pair

_ROUTE = re.compile(r"/(?:v\d+(?:/.*)?|score|rerank|predict|healthz|readyz|metrics|docs|openapi\.json)")
_SHOWN_CHARS = 80
_UNLIMITED_SECONDS = 1e9  # 32 years: clocks and sockets take no number without an end

Value = TypeVar("Value")


def checked_url(base_url: str) -> str:
    """Return a valid base URL: scheme, host, optional port, and the optional path prefix of a gateway."""
    expected = "expected http://HOST:PORT or https://HOST"
    if not isinstance(base_url, str):
        raise ConfigError(f"base_url of type {type(base_url).__name__}: {expected}")
    try:
        parts = urlsplit(base_url)
        host, _ = parts.hostname, parts.port
    except ValueError:  # its message may hold any part of the URL
        raise ConfigError(f"base_url: host or port is malformed; {expected}") from None
    if "@" in parts.netloc or "@" in base_url.partition("?")[0]:
        raise ConfigError(f"base_url: holds a user name or password (not shown); {expected}, and the key as api_key")
    if parts.query or parts.fragment or "?" in base_url:
        raise ConfigError(f"base_url: holds a query or fragment (not shown); {expected}")
    if parts.scheme not in ("http", "https") or not host or not base_url.isprintable() or " " in base_url:
        raise ConfigError(f"base_url {base_url[:_SHOWN_CHARS]!r}: {expected}")
    path = parts.path.rstrip("/")
    if found := _ROUTE.search(path):
        raise ConfigError(f"base_url: the path {found[0]!r} is a route of the service; {expected}, without the route")
    return base_url


def key_headers(api_key: str | None) -> dict[str, str]:
    """Return the header that carries an API key; no header without a key."""
    return {} if api_key is None or api_key == "" else bearer("api_key", api_key)


def checked_request_id(request_id: str | None) -> str | None:
    """Return a valid request id, or None."""
    if request_id is None or (isinstance(request_id, str) and REQUEST_ID.fullmatch(request_id)):
        return request_id
    raise ConfigError(
        f"request_id {_shown(request_id)}: expected 1 to 128 ASCII letters, digits or ._:/+=-, or None for a new one"
    )


def checked_seconds(name: str, seconds: float | None) -> float | None:
    """Return a timeout in seconds. None, infinity or decades: no limit (None)."""
    if seconds is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds > 0:
        raise ConfigError(f"{name} {_shown(seconds)}: expected seconds above 0, or infinity for no limit")
    return None if seconds >= _UNLIMITED_SECONDS else float(seconds)


def checked_count(name: str, count: int) -> int:
    """Return an integer of at least 1."""
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ConfigError(f"{name} {_shown(count)}: expected a whole number, at least 1")
    return count


def checked_texts(name: str, texts: Iterable[str]) -> list[str]:
    """Return texts as a list. A single string is refused: its letters would be scored."""
    found = list(_several(name, texts, "texts"))
    for place, text in enumerate(found):
        checked_text(f"{name}[{place}]", text)
    return found


def checked_text(name: str, text: str) -> str:
    """Return a text. It may be blank: the service decides on that."""
    if not isinstance(text, str):
        raise ConfigError(f"{name} {_shown(text)}: expected text")
    return text


def checked_pairs(pairs: Iterable[Pair]) -> list[Pair]:
    """Return pairs as a list."""
    found = list(checked_rows(pairs))
    for place, pair in enumerate(found):
        checked_pair(pair, place)
    return found


def checked_pair(pair: Pair, place: int) -> Pair:
    """Return a pair whose fields are texts; `place` from 0 names it in errors."""
    if not isinstance(pair, Pair):
        raise ConfigError(f"pairs[{place}] of type {type(pair).__name__}: expected a relevance.tasks.Pair")
    for name in ("query", "candidate", "language"):
        checked_text(f"pairs[{place}].{name}", getattr(pair, name))
    return pair


def checked_rows(pairs: Iterable[Pair]) -> Iterable[Pair]:
    """Return the pairs of a bulk job, unread: there may be any number."""
    return _several("pairs", pairs, "pairs")


def _several(name: str, values: Iterable[Value], what: str) -> Iterable[Value]:
    if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
        raise ConfigError(f"{name} of type {type(values).__name__}: expected several {what}, as a list")
    return values


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARS else text[: _SHOWN_CHARS - 3] + "..."
