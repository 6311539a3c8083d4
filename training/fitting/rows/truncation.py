"""Tokenisation that reports how many pairs are longer than the model reads: their ends are cut and have no effect."""

import logging
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from relevance.model.inputs import PairInputs
from relevance.model.text_cache import TextCache
from relevance.tasks import LabeledPair, Pair
from relevance.text.token_columns import TokenColumns
from relevance.text.tokenization import TokenizedPair
from training.data.stored.rows import batches_of

log = logging.getLogger(__name__)

MANY = 0.05  # share of truncated pairs above which the message is a warning


class _Cuts:
    """Counts pairs that are cut, and which of the two texts lost tokens."""

    def __init__(self, inputs: PairInputs) -> None:
        self._inputs = inputs
        self._pairs = self._queries = self._candidates = 0

    def add(self, pairs: Iterable[Pair]) -> None:
        """Count pairs that are cut."""
        tokenizer = self._inputs.tokenizer
        for pair in pairs:
            lengths = [len(ids) for ids in tokenizer.encode_texts(self._inputs.texts(pair))]
            first, second = tokenizer.kept(*lengths)
            self._pairs += 1
            self._queries += first < lengths[0]
            self._candidates += second < lengths[1]

    def tell(self, name: str, count: int) -> None:
        """Log what was found among `count` pairs, if anything."""
        if self._pairs:
            log.log(
                logging.WARNING if self._pairs > MANY * count else logging.INFO,
                "%s: %d of %d pairs (%.1f %%) are longer than %d tokens and were cut: origin_query in %d, %s in %d",
                *(name, self._pairs, count, 100 * self._pairs / count, self._inputs.tokenizer.max_length),
                *(self._queries, self._inputs.task.candidate_field, self._candidates),
            )


def encode(inputs: PairInputs, pairs: Sequence[Pair], name: str) -> list[TokenizedPair]:
    """Return pairs [N] as the model reads them; log how many were truncated, and which of the two texts lost tokens.

    Logs too where their categories are unknown to the category prior.
    """
    tokens, cuts = inputs.encode(pairs), _Cuts(inputs)
    tell_findings(inputs, pairs, name)
    cuts.add(pair for pair, read in zip(pairs, tokens, strict=True) if read.truncated)
    cuts.tell(name, len(pairs))
    return tokens


def encode_rows(inputs: PairInputs, rows: Sequence[LabeledPair], name: str) -> Iterator[TokenColumns]:
    """Yield the pairs of rows as the model reads them, some thousand at a time; log as `encode` at the end.

    Texts that come back soon are read once.
    """
    kept, cuts = TextCache(), _Cuts(inputs)
    for batch in batches_of(rows):
        texts = [batch.column(column).to_pylist() for column in ("query", "candidate", "language")]
        block = inputs.columns(*texts, kept)
        cuts.add(Pair(*(column[place] for column in texts)) for place in np.flatnonzero(block.truncated))
        yield block
    cuts.tell(name, len(rows))


def tell_findings(inputs: PairInputs, pairs: Sequence[Pair], name: str) -> None:
    """Log where the categories of pairs are unknown to the category prior."""
    for finding in inputs.findings(pairs):
        log.warning("%s: %s", name, finding)
