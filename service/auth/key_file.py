"""The file of API keys: names, hashes of secrets, scopes and limits. Never a secret itself.

A secret is 256 random bits, so a plain sha256 is enough: nobody can try them all. A slow hash is for passwords that
people choose; here it would only cost time on every request.
"""

import hashlib
import secrets
import tomllib
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from relevance.errors import ConfigError

SECRET_PREFIX = "rel_"  # so that people and scanners recognise a leaked secret
SECRET_BYTES = 32
MOST_KEYS = 1000


class Scope(StrEnum):
    """The routes that a key may call."""

    SCORE = "score"
    METRICS = "metrics"
    ADMIN = "admin"


class Key(BaseModel):
    """One key. A name may occur twice, with two secrets: so an old and a new secret are valid at the same time."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z0-9._-]{1,64}$", description="the name in logs")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="of the secret, hexadecimal")
    scopes: frozenset[Scope] = Field(min_length=1)
    requests_per_second: float | None = Field(
        None, strict=True, gt=0, allow_inf_nan=False, description="absent: no limit"
    )
    burst: int | None = Field(
        None, strict=True, ge=1, description="maximum requests at once after a pause; absent: requests_per_second"
    )
    max_concurrent: int | None = Field(
        None, strict=True, ge=1, description="maximum requests in progress; absent: no limit"
    )
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
    except (ValueError, RecursionError) as error:  # not TOML, not UTF-8, or nested too deeply
        raise ConfigError(f"api_keys {path}: not TOML ({error or type(error).__name__})") from None
    try:
        keys = _File.model_validate(raw).keys
    except ValidationError as error:
        raise ConfigError(f"api_keys {path}: {_faults(error)}") from None
    twice = len(keys) - len({key.sha256 for key in keys})
    if twice:
        raise ConfigError(f"api_keys {path}: {twice} secrets occur twice; expected each once")
    return keys


def new_secret() -> str:
    """Return a secret of 256 random bits."""
    return SECRET_PREFIX + secrets.token_urlsafe(SECRET_BYTES)


def sha256_of_secret(secret: str) -> str:
    """Return the hash that the file has for a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


def entry(name: str, secret: str, scopes: Sequence[str]) -> str:
    """Return the lines of the file for a new key. Raises ConfigError for a name or a scope that is not valid."""
    try:
        key = Key.model_validate({"name": name, "sha256": sha256_of_secret(secret), "scopes": scopes})
    except ValidationError as error:
        raise ConfigError(f"API key: {_faults(error)}") from None
    listed = ", ".join(f'"{scope}"' for scope in sorted(key.scopes))
    return f'[[keys]]\nname = "{key.name}"\nsha256 = "{key.sha256}"\nscopes = [{listed}]\n'


def _faults(error: ValidationError) -> str:
    """Return the faults without the values: one may be a secret in place of its hash."""
    return "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
