"""Who may call: finds the key of a request, and checks its scopes and limits.

Limits hold for one process: each replica has its own. When a request comes, at most once a second, the file is checked
and read again if it has changed. A broken file leaves the keys as they were.
"""

import contextlib
import hashlib
import hmac
import logging
import math
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from relevance.errors import ConfigError
from service.auth.key_file import Key, Scope, read_keys
from service.errors import ForbiddenError, KeyConcurrencyError, KeyRateError, UnauthorizedError

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0

Headers = Iterable[tuple[bytes, bytes]]
Stamp = tuple[int, int, int]


class Grant:
    """A key, its limits, and how much of them is used."""

    def __init__(self, key: Key) -> None:
        self.key, self.in_work = key, 0
        self._tokens, self._filled = math.inf, time.monotonic()
        self.renew(key)

    def renew(self, key: Key) -> None:
        """Take over the limits and scopes that the file now has for this secret. What is used stays used."""
        self.key, self.digest = key, bytes.fromhex(key.sha256)
        self.expires = key.expires.timestamp() if key.expires else math.inf
        self._rate = key.requests_per_second or math.inf
        self._burst = key.burst or max(1.0, self._rate)
        self._tokens = min(self._tokens, self._burst)

    @contextlib.contextmanager
    def admitted(self, scope: Scope) -> Iterator[None]:
        """Count a request while it lasts. Raises ForbiddenError, KeyConcurrencyError and KeyRateError."""
        key = self.key
        if scope not in key.scopes:
            raise ForbiddenError(f"key {key.name!r} is for {', '.join(sorted(key.scopes))}; expected {scope.value}")
        if key.max_concurrent is not None and self.in_work >= key.max_concurrent:
            raise KeyConcurrencyError(
                f"key {key.name!r}: {self.in_work} requests are in progress, expected at most {key.max_concurrent}", 1
            )
        self._count()
        self.in_work += 1
        try:
            yield
        finally:
            self.in_work -= 1

    def _count(self) -> None:
        """Take one token from a bucket of `burst` tokens that fills at `requests_per_second`."""
        if self._rate == math.inf:
            return
        now = time.monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._filled) * self._rate)
        self._filled = now
        if self._tokens < 1:
            wait = max(1, math.ceil((1 - self._tokens) / self._rate))
            raise KeyRateError(f"key {self.key.name!r}: expected at most {self._rate:g} requests a second", wait)
        self._tokens -= 1


class Keys:
    """The keys of a file. Used on one event loop."""

    def __init__(self, path: Path) -> None:
        """Read the file. Raises ConfigError."""
        self._path = path
        self._grants: list[Grant] = []
        self._stamp, self._look_at = _stamp(path), time.monotonic() + LOOK_SECONDS
        self._take_over(read_keys(path))

    def needed(self, scope: Scope | None) -> Scope | None:
        """Return the scope that a key needs for a route of this scope; None where the route is open to all.

        Routes of scope `metrics` are open unless a key names that scope.
        """
        if scope is not Scope.METRICS:
            return scope
        self._keep_fresh()
        return scope if any(Scope.METRICS in grant.key.scopes for grant in self._grants) else None

    def find(self, headers: Headers) -> Grant:
        """Return the grant of the key that headers carry. Raises UnauthorizedError."""
        self._keep_fresh()
        secret = _secret(headers)
        if secret is None:
            raise UnauthorizedError("no API key; expected `Authorization: Bearer KEY` or `X-API-Key: KEY`")
        digest, found = hashlib.sha256(secret).digest(), None
        for grant in self._grants:  # all of them, so that the time reveals nothing
            if hmac.compare_digest(grant.digest, digest):
                found = grant
        if found is None:
            raise UnauthorizedError("the API key is unknown")
        if found.expires <= time.time():
            raise UnauthorizedError(f"the API key {found.key.name!r} has expired")
        return found

    def _keep_fresh(self) -> None:
        if time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + LOOK_SECONDS
        stamp = _stamp(self._path)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._take_over(read_keys(self._path))
        except ConfigError as error:
            log.error("the keys stay as they were", extra={"fault": str(error)})

    def _take_over(self, keys: Iterable[Key]) -> None:
        known = {grant.key.sha256: grant for grant in self._grants}
        grants = []
        for key in keys:
            grant = known.get(key.sha256) or Grant(key)
            grant.renew(key)
            grants.append(grant)
        self._grants = grants
        names = sorted({grant.key.name for grant in grants})
        log.info("API keys read", extra={"keys": len(grants), "names": names})


def open_keys(path: Path | None) -> Keys | None:
    """Return the keys of a file; None without a file: then everybody may call."""
    return None if path is None else Keys(path)


def _secret(headers: Headers) -> bytes | None:
    """Return the secret that a request carries: a bearer token, else the value of `X-API-Key`."""
    key = None
    for name, value in headers:
        if name == b"authorization" and value[:7].lower() == b"bearer ":
            return value[7:].strip()
        if name == b"x-api-key":
            key = value.strip()
    return key


def _stamp(path: Path) -> Stamp | None:
    """Return a value that changes when a file does; None where there is no file."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino
