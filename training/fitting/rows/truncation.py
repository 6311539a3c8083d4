"""Tokenisation that reports how many pairs are longer than the model reads: their ends are cut and have no effect."""

import logging
from collections.abc import Sequence

from relevance.model.inputs import PairInputs
from relevance.model.prior import PriorFeatures
from relevance.tasks import Pair
from relevance.text.tokenization import TokenizedPair

log = logging.getLogger(__name__)

MANY = 0.05  # share of truncated pairs above which the message is a warning


def encode(
    inputs: PairInputs, pairs: Sequence[Pair], name: str, priors: Sequence[PriorFeatures] | None = None
) -> list[TokenizedPair]:
    """Return pairs [N] as the model reads them; log how many were truncated, and which of the two texts lost tokens.

    Logs too where their categories are unknown to the category prior. `priors` [N] replace its features.
    """
    tokens, tokenizer, task = inputs.encode(pairs, priors), inputs.tokenizer, inputs.task
    for finding in () if priors else inputs.findings(pairs):
        log.warning("%s: %s", name, finding)
    cut = [inputs.texts(pair) for pair, read in zip(pairs, tokens, strict=True) if read.truncated]
    if not cut:
        return tokens
    lengths = [[len(ids) for ids in tokenizer.encode_texts(text)] for text in cut]
    kept = [tokenizer.kept(*each) for each in lengths]
    queries, candidates = (sum(k[i] < n[i] for k, n in zip(kept, lengths, strict=True)) for i in (0, 1))
    log.log(
        logging.WARNING if len(cut) > MANY * len(pairs) else logging.INFO,
        "%s: %d of %d pairs (%.1f %%) are longer than %d tokens and were cut: origin_query in %d, %s in %d",
        *(name, len(cut), len(pairs), 100 * len(cut) / len(pairs), tokenizer.max_length),
        *(queries, task.candidate_field, candidates),
    )
    return tokens
