"""The file that API keys stand in: names, hashes of secrets, scopes and limits. Never a secret itself.

A secret is 256 random bits, so one plain sha256 of it is enough: nobody can try them all. A slow hash, which makes up
for passwords that people choose, would only cost time on every request.
"""

import hashlib
import secrets
import tomllib
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from relevance.errors import ConfigError

SECRET_PREFIX = "rel_"  # so that a secret that turns up somewhere is seen to be one, by scanners too
SECRET_BYTES = 32
MOST_KEYS = 1000


class Scope(StrEnum):
    """What a key opens."""

    SCORE = "score"
    METRICS = "metrics"
    ADMIN = "admin"


class Key(BaseModel):
    """One key. A name may stand twice, with two secrets: so an old and a new one are valid side by side."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z0-9._-]{1,64}$", description="what the log calls it")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="of the secret, hexadecimal")
    scopes: frozenset[Scope] = Field(min_length=1)
    requests_per_second: float | None = Field(None, gt=0, allow_inf_nan=False, description="absent: no limit")
    burst: int | None = Field(None, ge=1, description="requests at once after a pause; absent: those of one second")
    max_concurrent: int | None = Field(None, ge=1, description="requests in work at once; absent: no limit")
    expires: AwareDatetime | None = Field(None, description="with an offset, as 2027-01-31T00:00:00Z; absent: never")


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    keys: tuple[Key, ...] = Field(min_length=1, max_length=MOST_KEYS)


def read_keys(path: Path) -> tuple[Key, ...]:
    """Return the keys of a TOML file. Raises ConfigError naming the file and what is wrong."""
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"api_keys {path}: {error.strerror}; expected a TOML file of keys") from None
    except (ValueError, RecursionError) as error:  # no TOML, no UTF-8, or nested without end
        raise ConfigError(f"api_keys {path}: no TOML ({error or type(error).__name__})") from None
    try:
        keys = _File.model_validate(raw).keys
    except ValidationError as error:
        raise ConfigError(f"api_keys {path}: {_faults(error)}") from None
    twice = len(keys) - len({key.sha256 for key in keys})
    if twice:
        raise ConfigError(f"api_keys {path}: {twice} secrets stand twice; expected each once")
    return keys


def new_secret() -> str:
    """Return a secret of 256 random bits."""
    return SECRET_PREFIX + secrets.token_urlsafe(SECRET_BYTES)


def sha256_of_secret(secret: str) -> str:
    """Return what the file holds of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


def entry(name: str, secret: str, scopes: Sequence[str]) -> str:
    """Return the lines to paste into the file for a new key. Raises ConfigError for a name or scopes that are none."""
    try:
        key = Key.model_validate({"name": name, "sha256": sha256_of_secret(secret), "scopes": scopes})
    except ValidationError as error:
        raise ConfigError(f"API key: {_faults(error)}") from None
    listed = ", ".join(f'"{scope}"' for scope in sorted(key.scopes))
    return f'[[keys]]\nname = "{key.name}"\nsha256 = "{key.sha256}"\nscopes = [{listed}]\n'


def _faults(error: ValidationError) -> str:
    """Return what is wrong, without the values: one may be a secret in the place of its hash."""
    return "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
