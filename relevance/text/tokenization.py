"""Turns pairs into token ids with a model's own tokenizer.json. Training and serving share it. Knows no model.

Query and candidate are tokenised separately and then joined, so that a caller with one query and many candidates
tokenises the query once. Text that looks like a special token (`</s>` typed by a user) never becomes one: it is
tokenised as plain text, or dropped if the vocabulary itself holds it as a piece.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from relevance.errors import InputError
from relevance.text.prompt import Prompt

METASPACE = "▁"
UNUSED_CHARACTER = "\U0010fffd"  # private use: in no vocabulary


@dataclass(frozen=True, slots=True)
class PairTemplate:
    """The special tokens around a pair: prefix A middle B suffix, and the token type ids of each part."""

    prefix: tuple[int, ...]
    middle: tuple[int, ...]
    suffix: tuple[int, ...]
    query_type: int
    candidate_type: int
    prefix_types: tuple[int, ...]
    middle_types: tuple[int, ...]
    suffix_types: tuple[int, ...]

    @property
    def special_ids(self) -> tuple[int, ...]:
        """The ids of all special tokens in the template, sorted, each once."""
        return tuple(sorted({*self.prefix, *self.middle, *self.suffix}))

    @property
    def types(self) -> tuple[int, ...]:
        """The token type ids that occur, in the order of the parts."""
        t = self
        return (*t.prefix_types, t.query_type, *t.middle_types, t.candidate_type, *t.suffix_types)

    @property
    def overhead(self) -> int:
        """How many tokens of a pair are special ones."""
        return len(self.prefix) + len(self.middle) + len(self.suffix)


@dataclass(frozen=True, slots=True)
class TokenizedPair:
    """Token ids and token type ids of one pair, special tokens included, without padding, and its features [F]."""

    input_ids: list[int]
    token_type_ids: list[int]
    truncated: bool
    features: tuple[float, ...] = ()

    def __len__(self) -> int:
        return len(self.input_ids)


class PairTokenizer:
    """Turns pairs of texts into at most `max_length` token ids; the longer text is truncated first, on the right."""

    def __init__(self, tokenizer: Tokenizer, max_length: int, pad_id: int, prompt: Prompt | None = None) -> None:
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self.max_length = max_length
        self.pad_id = pad_id
        self.template = _probe_template(tokenizer) if prompt is None else _prompt_template(tokenizer, prompt)
        self.leads = (
            ("", "") if prompt is None else _leads(tokenizer, prompt)
        )  # before a query's and a candidate's text
        self.query_tail = "" if prompt is None else prompt.query_tail  # behind a query's text
        tokenizer.encode_special_tokens = True
        self._tokenizer = tokenizer
        self.unknown_id = _unknown_id(tokenizer)
        self._typed = any(self.template.types)
        self._room = max_length - self.template.overhead
        # Of a prompt, only the marks of the vocabulary: its words may occur in texts.
        special = self.template.special_ids if prompt is None else tokenizer.get_added_tokens_decoder().keys()
        self._special_ids = frozenset({*special, pad_id} & {*self.template.special_ids, pad_id})
        if self._room <= 0:
            what = "special tokens" if prompt is None else "tokens of the prompt, or a shorter prompt"
            raise InputError(f"max_length {max_length}: expected more than {self.template.overhead} {what}")

    @classmethod
    def from_file(cls, path: Path, max_length: int, pad_id: int, prompt: Prompt | None = None) -> "PairTokenizer":
        """Read a tokenizer.json. Raises InputError if the file is missing or not a tokenizer."""
        try:
            return cls(Tokenizer.from_file(str(path)), max_length, pad_id, prompt)
        except BaseException as error:  # tokenizers raises bare Exception, and its panics are not even that
            if isinstance(error, InputError | KeyboardInterrupt | SystemExit):
                raise
            raise InputError(f"tokenizer {path}: {error}; expected a tokenizer.json") from None

    def encode_texts(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each text, without special tokens and not truncated."""
        found = [e.ids for e in self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]
        typed = self._special_ids
        return [ids if typed.isdisjoint(ids) else [i for i in ids if i not in typed] for ids in found]

    def join(
        self, query_ids: Sequence[int], candidate_ids: Sequence[int], features: tuple[float, ...] = ()
    ) -> TokenizedPair:
        """Join the ids of a query and a candidate into one pair of at most `max_length` tokens."""
        t, first, second = self.template, len(query_ids), len(candidate_ids)
        truncated = first + second > self._room
        if truncated:
            first, second = self.kept(first, second)
            query_ids, candidate_ids = query_ids[:first], candidate_ids[:second]
        ids = [*t.prefix, *query_ids, *t.middle, *candidate_ids, *t.suffix]
        return TokenizedPair(ids, self._types(first, second) if self._typed else [0] * len(ids), truncated, features)

    def kept(self, query_tokens: int, candidate_tokens: int) -> tuple[int, int]:
        """Return how many tokens of a query and of a candidate with these lengths are kept."""
        return _longest_first(query_tokens, candidate_tokens, self._room)

    def kept_columns(self, query_tokens: np.ndarray, candidate_tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return what `kept` returns for the lengths [N] of the texts of many pairs."""
        fits = query_tokens + candidate_tokens <= self._room
        shorter = np.minimum(np.minimum(query_tokens, candidate_tokens), self._room // 2)
        longer = self._room - shorter
        first, second = np.where(query_tokens <= candidate_tokens, (shorter, longer), (longer, shorter))
        return np.where(fits, query_tokens, first), np.where(fits, candidate_tokens, second)

    def encode_pairs(self, texts: Sequence[tuple[str, str]]) -> list[TokenizedPair]:
        """Tokenise (query text, candidate text) pairs; each different text is tokenised once."""
        distinct = list(dict.fromkeys(text for pair in texts for text in pair))
        ids = dict(zip(distinct, self.encode_texts(distinct), strict=True))
        return [self.join(ids[query], ids[candidate]) for query, candidate in texts]

    def collate(self, pairs: Sequence[TokenizedPair], width: int = 0) -> dict[str, np.ndarray]:
        """Pad pairs on the right to the longest pair, or to `width` if that is longer.

        Returns `input_ids`, `attention_mask` and `token_type_ids`, int64 [B, T], and `features`, float32 [B, F].
        """
        lengths = np.array([len(pair.input_ids) for pair in pairs])
        kept = np.arange(max(width, int(lengths.max()))) < lengths[:, None]
        ids = np.full(kept.shape, self.pad_id, dtype=np.int64)
        ids[kept] = _flat([pair.input_ids for pair in pairs])
        types = np.zeros(kept.shape, dtype=np.int64)
        if self._typed:
            types[kept] = _flat([pair.token_type_ids for pair in pairs])
        features = np.array([pair.features for pair in pairs], dtype=np.float32)
        masks = kept.astype(np.int64)
        return {"input_ids": ids, "attention_mask": masks, "token_type_ids": types, "features": features}

    def _types(self, first: int, second: int) -> list[int]:
        t = self.template
        return [
            *t.prefix_types,
            *[t.query_type] * first,
            *t.middle_types,
            *[t.candidate_type] * second,
            *t.suffix_types,
        ]


def batches(lengths: Sequence[int] | np.ndarray, max_batch_tokens: int) -> Iterator[list[int]]:
    """Yield the places of the next batch, longest pairs first, so that a batch that is too large fails at once.

    Rows x longest length stays within `max_batch_tokens`, unless one pair alone is longer. Pairs of one length keep
    their order: equal lengths give equal batches.
    """
    order = np.argsort(-np.asarray(lengths, dtype=np.int64), kind="stable").tolist()
    start = 0
    while start < len(order):
        end = start + max(1, max_batch_tokens // int(lengths[order[start]]))
        yield order[start:end]
        start = end


def _flat(rows: list[list[int]]) -> np.ndarray:
    return np.fromiter(itertools.chain.from_iterable(rows), dtype=np.int64)


def _longest_first(first: int, second: int, room: int) -> tuple[int, int]:
    """Return how many tokens of each text stay in `room` if the longer text is always truncated first."""
    if first + second <= room:
        return first, second
    shorter = min(first, second, room // 2)
    return (shorter, room - shorter) if first <= second else (room - shorter, shorter)


def _unknown_id(tokenizer: Tokenizer) -> int | None:
    """Return the id of unknown text, or None if the vocabulary covers every text."""
    if name := getattr(tokenizer.model, "unk_token", None):
        unknown: int | None = tokenizer.token_to_id(name)
        return unknown
    special = tokenizer.get_added_tokens_decoder()  # a Unigram model does not name it, but uses it
    return next((i for i in tokenizer.encode(UNUSED_CHARACTER, add_special_tokens=False).ids if i in special), None)


def _probe_template(tokenizer: Tokenizer) -> PairTemplate:
    """Find the special tokens around a pair, by tokenising a probe with the tokenizer's own post-processor."""
    query, candidate = (tokenizer.encode(text, add_special_tokens=False).ids for text in ("a", "b"))
    whole = tokenizer.encode("a", "b", add_special_tokens=True)
    a = _find(whole.ids, query, 0)
    b = _find(whole.ids, candidate, a + len(query))
    end_a, end_b = a + len(query), b + len(candidate)
    ids, types = tuple(whole.ids), tuple(whole.type_ids)
    return PairTemplate(
        prefix=ids[:a],
        middle=ids[end_a:b],
        suffix=ids[end_b:],
        query_type=types[a],
        candidate_type=types[b],
        prefix_types=types[:a],
        middle_types=types[end_a:b],
        suffix_types=types[end_b:],
    )


def _prompt_template(tokenizer: Tokenizer, prompt: Prompt) -> PairTemplate:
    """Return the tokens of a prompt around a pair. Marks such as `<|im_start|>` in its text are special tokens.

    What the tokenizer puts before every text (`<s>`) begins the prompt, unless the prompt begins with it itself. Spaces
    before a text are tokenised with it: see `_leads`. So may be line breaks behind the query: see `Prompt.query_tail`.
    """
    before, between, after = prompt.parts
    between = between.removeprefix(prompt.query_tail)
    whole, alone = (tokenizer.encode("a", add_special_tokens=special).ids for special in (True, False))
    begin = whole[: _find(whole, alone, 0)]
    prefix, middle, suffix = (
        tokenizer.encode(part, add_special_tokens=False).ids
        for part in (before.rstrip(" "), between.rstrip(" "), after)
    )
    if prefix[: len(begin)] != begin:
        prefix = begin + prefix
    types = [tuple([0] * len(part)) for part in (prefix, middle, suffix)]
    return PairTemplate(tuple(prefix), tuple(middle), tuple(suffix), 0, 0, *types)


def _leads(tokenizer: Tokenizer, prompt: Prompt) -> tuple[str, str]:
    """Return the spaces before a query and before a candidate: most vocabularies hold words with the space before them.

    Tokenizers that put one before every text themselves (Llama 2) get none.
    """
    adds_space = tokenizer.encode("a", add_special_tokens=False).tokens[0].startswith(METASPACE)
    before, between, _ = ("" if adds_space else part[len(part.rstrip(" ")) :] for part in prompt.parts)
    return before, between


def answer_ids(tokenizer: Tokenizer, prompt: Prompt) -> tuple[int, int]:
    """Return the token ids of the prompt's answers, yes and no. InputError where one is not one token."""
    after = prompt.parts[2]
    ids = tokenizer.encode(after, add_special_tokens=False).ids
    found = []
    for answer in (prompt.yes, prompt.no):
        whole = tokenizer.encode(after + answer, add_special_tokens=False)
        if whole.ids[:-1] != ids:
            raise InputError(
                f"prompt: its answer {answer!r} is not one token after {after[-20:]!r}; its last tokens there are "
                f"{', '.join(map(repr, whole.tokens[-4:]))}; expected a "
                "word of the vocabulary, with a space before it where the prompt ends without one"
            )
        found.append(whole.ids[-1])
    return found[0], found[1]


def _find(ids: list[int], part: list[int], start: int) -> int:
    for i in range(start, len(ids) - len(part) + 1):
        if part and ids[i : i + len(part)] == part:
            return i
    raise InputError(
        f"tokenizer: its pair template {ids} does not hold the probe text {part}; expected a pair template"
    )
