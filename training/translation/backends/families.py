"""How each family of translation models takes its languages: as tokens before the source or before the translation.

The class of the tokenizer, as `tokenizer_config.json` names it, tells the family.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from relevance.errors import ConfigError
from relevance.tasks import UNKNOWN_LANGUAGE
from training.text.tables import language as known_language

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# ISO 639-2 codes and old names that Marian models use for their languages.
_MARIAN_ALIASES = {
    "ara": "ar", "ces": "cs", "deu": "de", "ger": "de", "eng": "en", "spa": "es", "fra": "fr", "fre": "fr", "ita": "it",
    "jpn": "ja", "jap": "ja", "kor": "ko", "nld": "nl", "pol": "pl", "por": "pt", "rus": "ru", "tha": "th", "tur": "tr",
    "ukr": "uk", "vie": "vi", "zho": "zh", "cmn_Hans": "zh",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Family:
    """Language handling of one model.

    `code` gives a language's name in the model, or None where it has none; `is_source` says whether texts of a language
    can be read. A text gets `text_prefix` in front; `source_setting` is the tokenizer's `src_lang`, where it has one;
    the translation begins with the tokens of `target_prefix`, which are no part of it.
    """

    name: str
    code: Callable[[str], str | None]
    is_source: Callable[[str], bool]
    text_prefix: Callable[[str], str] = lambda code: ""
    source_setting: Callable[[str], str | None] = lambda language: None
    target_prefix: Callable[[str], list[str]] = lambda code: []


def family_of(tokenizer: "PreTrainedTokenizerBase", folder: Path) -> Family:
    """Return the family of a converted model. ConfigError for a tokenizer of no known family."""
    name = type(tokenizer).__name__.removesuffix("Fast").removesuffix("Tokenizer")

    def has(token: str) -> bool:
        # M2M100's language tokens are in no `get_vocab()`.
        return tokenizer.convert_tokens_to_ids(token) != tokenizer.unk_token_id

    def flores_code(language: str) -> str | None:
        return known_language(language).flores or None

    if name == "M2M100":
        return _multilingual("m2m100", lambda language: f"__{language}__", has, lambda language: language)
    if name == "Nllb":
        return _multilingual("nllb", flores_code, has, flores_code)
    if name == "T5" and any(token.startswith("<2") for token in tokenizer.get_vocab()):
        return Family(
            "madlad",
            code=lambda language: f"<2{language}>" if has(f"<2{language}>") else None,
            is_source=lambda language: True,  # the model takes the target language only
            text_prefix=lambda code: f"{code} ",
        )
    if name == "Marian":
        return _marian(tokenizer, folder)
    raise ConfigError(
        f"translation model {folder}: tokenizer {type(tokenizer).__name__}; expected one of M2M100, NLLB, Marian, or "
        "T5 with target tokens such as <2de> (MADLAD-400)"
    )


def _multilingual(
    name: str, token: Callable[[str], str | None], has: Callable[[str], bool], setting: Callable[[str], str | None]
) -> Family:
    """Return a family with the source language before the text and the target language before the translation."""

    def code(language: str) -> str | None:
        found = token(language)
        return found if found is not None and has(found) else None

    return Family(
        name,
        code=code,
        is_source=lambda language: code(language) is not None,
        source_setting=setting,
        target_prefix=lambda found: [found],
    )


def _marian(tokenizer: "PreTrainedTokenizerBase", folder: Path) -> Family:
    """Return a model of one pair, or one of several targets, which are named as `>>deu<<` before the text."""
    config = json.loads((folder / "tokenizer_config.json").read_bytes())
    source, target = (_iso(config.get(name) or UNKNOWN_LANGUAGE) for name in ("source_lang", "target_lang"))
    tokens = [token for token in tokenizer.get_vocab() if token.startswith(">>") and token.endswith("<<")]
    targets = {_iso(token.strip("<>")): token for token in tokens}
    is_group = len(source) > 3 or source in (UNKNOWN_LANGUAGE, "mul")  # as in ROMANCE
    return Family(
        "marian",
        code=lambda language: targets.get(language) if targets else (target if language == target else None),
        is_source=lambda language: is_group or language == source,
        text_prefix=lambda code: f"{code} " if targets else "",
    )


def _iso(code: str) -> str:
    return _MARIAN_ALIASES.get(code, code.lower())
