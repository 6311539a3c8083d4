"""Translators by their short names, as the command line and recipes give them."""

import contextlib
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from relevance.errors import ConfigError
from relevance.model.card import explain
from relevance.secrets import without_secrets
from training.endpoint.options import model_and_url
from training.translation.backends.translator import Translator

EXPECTED = "expected memory:FILE[,FILE], ctranslate2:FOLDER or openai:MODEL@URL"


@contextlib.contextmanager
def open_translators(
    names: Sequence[str], settings: Mapping[str, Mapping[str, Any]] | None = None, *, skip_bad: bool = False
) -> Iterator[list[Translator]]:
    """Yield the translators of `names`, in their order, and close them afterwards.

    `settings` holds further options by kind, as in `{"openai": {"concurrency": 8}}`: fields of `OpenAIOptions` and
    `CTranslate2Options`. `skip_bad` leaves broken lines of memories out. Raises ConfigError for an unknown name or
    option, and what the backends raise when they are made.
    """
    if not names:
        raise ConfigError(f"backends: none given; {EXPECTED}")
    made: list[Translator] = []
    with contextlib.ExitStack() as stack:
        for name in names:
            translator = _translator(name, settings or {}, skip_bad)
            if hasattr(translator, "close"):
                stack.callback(translator.close)
            made.append(translator)
        yield made


def backend_settings(texts: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return settings from texts such as `openai.concurrency=8`; what is no TOML value is a string."""
    settings: dict[str, dict[str, Any]] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        kind, dot, field = key.strip().partition(".")
        if not (equals and dot and kind in ("openai", "ctranslate2")):
            raise ConfigError(f"setting {key.strip()!r}: expected openai.FIELD=VALUE or ctranslate2.FIELD=VALUE")
        try:
            parsed = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            parsed = value.strip()
        settings.setdefault(kind, {})[field] = parsed
    return settings


def _translator(name: str, settings: Mapping[str, Mapping[str, Any]], skip_bad: bool) -> Translator:
    kind, _, rest = name.partition(":")
    if not rest:
        raise ConfigError(f"backend {_shown(name)!r}: {EXPECTED}")
    if named := sorted({"folder", "model", "url"} & settings.get(kind, {}).keys()):
        raise ConfigError(f"setting {kind}.{named[0]}: is in the backend's name {_shown(name)!r} too; expected it once")
    try:
        if kind == "memory":
            from training.translation.backends.memory import MemoryTranslator

            return MemoryTranslator.from_files([Path(part) for part in rest.split(",")], skip_bad=skip_bad)
        if kind == "ctranslate2":
            from training.translation.backends.ctranslate2 import CTranslate2Options, CTranslate2Translator

            return CTranslate2Translator(CTranslate2Options(**{"folder": Path(rest), **settings.get(kind, {})}))
        if kind == "openai":
            from training.translation.backends.openai import OpenAITranslator
            from training.translation.backends.openai_options import OpenAIOptions

            model, url = model_and_url(rest)
            return OpenAITranslator(OpenAIOptions(**{"model": model, "url": url, **settings.get(kind, {})}))
    except ValidationError as error:
        raise ConfigError(f"backend {_shown(name)!r}: {explain(error)}") from None
    raise ConfigError(f"backend {_shown(name)!r}: {EXPECTED}")


def _shown(name: str) -> str:
    """Return a backend's name without the password that its URL may hold."""
    model, at, url = name.partition("@http")
    return f"{model}@{without_secrets('http' + url)}" if at else without_secrets(name)
