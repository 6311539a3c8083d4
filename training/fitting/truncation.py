"""Tokenisation that reports how many pairs are longer than the model reads: their ends are cut and have no effect."""

import logging
from collections.abc import Sequence

from relevance.tasks import Task
from relevance.tokenization import PairTokenizer, TokenizedPair

log = logging.getLogger(__name__)

MANY = 0.05  # share of truncated pairs above which the message is a warning


def tokenize(tokenizer: PairTokenizer, texts: Sequence[tuple[str, str]], name: str, task: Task) -> list[TokenizedPair]:
    """Tokenise the texts [N] of pairs; log how many were truncated, and which of the two texts lost tokens."""
    pairs = tokenizer.encode_pairs(texts)
    cut = [text for text, pair in zip(texts, pairs, strict=True) if pair.truncated]
    if not cut:
        return pairs
    lengths = [[len(ids) for ids in tokenizer.encode_texts(text)] for text in cut]
    kept = [tokenizer.kept(*each) for each in lengths]
    queries, candidates = (sum(k[i] < n[i] for k, n in zip(kept, lengths, strict=True)) for i in (0, 1))
    log.log(
        logging.WARNING if len(cut) > MANY * len(pairs) else logging.INFO,
        "%s: %d of %d pairs (%.1f %%) are longer than %d tokens and were cut: origin_query in %d, %s in %d",
        *(name, len(cut), len(pairs), 100 * len(cut) / len(pairs), tokenizer.max_length),
        *(queries, task.candidate_field, candidates),
    )
    return pairs
