"""How many pairs are longer than the model reads: their ends are cut, and what stands there has no say in the score."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from relevance.tasks import Task
from relevance.tokenization import PairTokenizer, TokenizedPair

log = logging.getLogger(__name__)

MANY = 0.05  # share of pairs from which on it is a warning


@dataclass(frozen=True, slots=True)
class Cuts:
    """Of `pairs` pairs, how many were cut, and how many of these lost tokens of the query and of the candidate."""

    pairs: int
    cut: int
    queries: int
    candidates: int
    max_length: int

    def told(self, name: str, task: Task) -> None:
        """Log the share of cut pairs, as a warning where it is large; nothing where none was cut."""
        if self.cut:
            level = logging.WARNING if self.cut > MANY * self.pairs else logging.INFO
            message = (
                "%s: %d of %d pairs (%.1f %%) are longer than %d tokens and were cut: origin_query in %d, %s in %d"
            )
            share = 100 * self.cut / self.pairs
            counts = self.queries, task.candidate_field, self.candidates
            log.log(level, message, name, self.cut, self.pairs, share, self.max_length, *counts)


def count_cuts(tokenizer: PairTokenizer, texts: Sequence[tuple[str, str]], pairs: Sequence[TokenizedPair]) -> Cuts:
    """Count the cut ones among pairs [N] that were made of texts [N]."""
    cut = [text for text, pair in zip(texts, pairs, strict=True) if pair.truncated]
    flat = tokenizer.encode_texts([part for text in cut for part in text])
    lengths = [(len(query), len(candidate)) for query, candidate in zip(flat[::2], flat[1::2], strict=True)]
    kept = [tokenizer.kept(*each) for each in lengths]
    queries = sum(k[0] < n[0] for k, n in zip(kept, lengths, strict=True))
    candidates = sum(k[1] < n[1] for k, n in zip(kept, lengths, strict=True))
    return Cuts(len(pairs), len(cut), queries, candidates, tokenizer.max_length)
