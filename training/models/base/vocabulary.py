"""Which tokens of a vocabulary stay when it is trimmed, and the trimmed tokenizer. Unigram tokenizers only.

Knows tokenizer.json. Knows nothing of models: training.models.base.prepared selects their embeddings.
"""

import json
import unicodedata
from collections.abc import Iterable
from functools import cache
from itertools import islice
from typing import Any

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from relevance.errors import CheckpointError, ConfigError

# First words of Unicode's names of characters; ideographs are CJK.
SCRIPTS = (
    *("ARABIC", "ARMENIAN", "BENGALI", "CJK", "CYRILLIC", "DEVANAGARI", "ETHIOPIC", "GEORGIAN", "GREEK", "GUJARATI"),
    *("GURMUKHI", "HANGUL", "HEBREW", "HIRAGANA", "KANNADA", "KATAKANA", "KHMER", "LAO", "LATIN", "MALAYALAM"),
    *("MYANMAR", "ORIYA", "SINHALA", "TAMIL", "TELUGU", "THAI"),
)

_COMMON_CATEGORIES = "NPS"  # digits, punctuation and symbols, of every script
_METASPACE = "▁"
_CORPUS_BATCH = 1000


def needed_ids(
    tokenizer: PreTrainedTokenizerFast,
    corpus: Iterable[str],
    scripts: Iterable[str] = (),
    *,
    whole_scripts: bool = False,
    always: Iterable[int] = (),
) -> list[int]:
    """Return the ids that stay, ascending. Texts of the corpus are segmented exactly as before.

    Viterbi's best path stays the best when other pieces go. The piece of the lowest score stays, because an unknown
    character costs that score less 10. All ids up to the padding id stay, because RoBERTa counts positions from it.
    Raises ConfigError for tokenizers other than Unigram.
    """
    spec = _unigram_spec(tokenizer)
    vocabulary = spec["model"]["vocab"]
    words = _script_words(scripts)
    needed = set(always) | {token["id"] for token in spec["added_tokens"]} | set(tokenizer.all_special_ids)
    needed |= set(range((tokenizer.pad_token_id or 0) + 1))
    needed.add(min(range(len(vocabulary)), key=lambda i: vocabulary[i][1]))
    if spec["model"]["unk_id"] is not None:
        needed.add(spec["model"]["unk_id"])
    needed |= _corpus_ids(tokenizer.backend_tokenizer, corpus)
    for i, (piece, _) in enumerate(vocabulary):
        text = piece.replace(_METASPACE, "")
        single = len(text) <= 1
        if (single and text.isascii()) or ((single or whole_scripts) and all(_belongs(c, words) for c in text)):
            needed.add(i)
    return sorted(needed)


def trimmed_tokenizer(tokenizer: PreTrainedTokenizerFast, ids: list[int]) -> PreTrainedTokenizerFast:
    """Return a tokenizer of only the tokens `ids` (ascending), numbered from 0, with their scores."""
    spec = _unigram_spec(tokenizer)
    moved = {old: new for new, old in enumerate(ids)}
    model = spec["model"]
    model["vocab"] = [model["vocab"][i] for i in ids if i < len(model["vocab"])]
    model["unk_id"] = moved.get(model["unk_id"])
    spec["added_tokens"] = [{**token, "id": moved[token["id"]]} for token in spec["added_tokens"]]
    _renumber(spec["post_processor"], moved)
    backend = Tokenizer.from_str(json.dumps(spec))
    for token in spec["added_tokens"]:
        if backend.token_to_id(token["content"]) != token["id"]:
            raise CheckpointError(f"tokenizer: the added token {token['content']!r} cannot keep its place")
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=tokenizer.model_max_length,
        model_input_names=tokenizer.model_input_names,
        padding_side=tokenizer.padding_side,
        truncation_side=tokenizer.truncation_side,
        **tokenizer.special_tokens_map,
    )


def _unigram_spec(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    """Return the content of tokenizer.json. Raises ConfigError for other types: BPE needs the tokens it merges."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    kind = type(backend.model if backend else tokenizer).__name__
    if kind != "Unigram":
        raise ConfigError(f"vocabulary trimming: the tokenizer's type is {kind}; expected Unigram, or no trimming")
    return {**json.loads(backend.to_str()), "truncation": None, "padding": None}


def _corpus_ids(tokenizer: Tokenizer, corpus: Iterable[str]) -> set[int]:
    """Return the ids that occur in the texts. Text that looks like a special token is plain text, as in scoring."""
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True
    texts, found = iter(corpus), set()
    while batch := list(islice(texts, _CORPUS_BATCH)):
        for encoding in tokenizer.encode_batch_fast(batch, add_special_tokens=False):
            found.update(encoding.ids)
    tokenizer.encode_special_tokens = False
    return found


def _renumber(processor: dict[str, Any] | None, moved: dict[int, int]) -> None:
    """Give the special tokens of a post-processor their new ids, in place."""
    if processor is None:
        return
    for part in processor.get("processors", ()):
        _renumber(part, moved)
    for token in processor.get("special_tokens", {}).values():
        token["ids"] = [moved[i] for i in token["ids"]]
    for name in ("sep", "cls"):  # BertProcessing and RobertaProcessing hold [token, id]
        if name in processor:
            processor[name][1] = moved[processor[name][1]]


def check_scripts(names: tuple[str, ...]) -> None:
    """Raise ConfigError for a name that is not in SCRIPTS."""
    for name in names:
        if name.upper() not in SCRIPTS:
            raise ConfigError(f"script {name!r}: unknown; expected one of {', '.join(SCRIPTS)}")


def _script_words(names: Iterable[str]) -> frozenset[str]:
    """Return the first words of the Unicode names of the scripts' characters."""
    words = {name.upper() for name in names}
    return frozenset(words | {"IDEOGRAPHIC"} if "CJK" in words else words)


@cache
def _belongs(character: str, words: frozenset[str]) -> bool:
    """Return whether a character is a digit or sign, or of the scripts; `KATAKANA-HIRAGANA ...` is of both."""
    if unicodedata.category(character)[0] in _COMMON_CATEGORIES:
        return True
    return not words.isdisjoint(unicodedata.name(character, "").partition(" ")[0].split("-"))
