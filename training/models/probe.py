"""A probe: logistic regression over the frozen encoder's embeddings of query and candidate.

It trains in seconds where a cross-encoder takes minutes to hours, because every text is embedded once. On the real QC
data its AUC equals that of the six-layer cross-encoder (docs/log.md). It judges labels (self-validation) and serves for
quick ablations. It is not exported.
"""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from relevance.errors import InputError
from relevance.tasks import LabeledPair, Pair, Task, query_key
from relevance.text.formatting import PairFormat
from training.data.labels.weights import label_shares, label_weights
from training.embedding.vectors import CANDIDATE_PREFIX, QUERY_PREFIX, PairEncoder, Vectors

Floats = NDArray[np.float64]


# The inverse L2 penalty (scikit-learn's C), for features of unit variance. It is near the best one on the sample, on
# real QC and on real QI. Choosing it on a dev set with wrong labels gave unstable values (docs/log.md).
STRENGTH = 0.0003


class Probe:
    """One logistic regression with a fixed penalty. Targets and weights of rows (training.data.labels.weights) count.

    A row with a target of .7 counts as .7 of a row of label 1 and .3 of one of label 0: the cross-entropy is the same.

    Seed 0 trains on the rows as they are, any other seed on a bootstrap sample of them. So probes of several seeds
    differ, and their agreement is informative.
    """

    def __init__(self, encoder: PairEncoder, task: Task, seed: int = 0) -> None:
        self._encoder, self._task, self._seed = encoder, task, seed
        self._model: Any = None
        self._format = PairFormat()
        self._mean = self._spread = np.zeros(0, dtype=np.float32)

    def fit(self, rows: Sequence[LabeledPair]) -> Self:
        """Train on rows [N]. InputError where a label is missing."""
        # Heavy, and not needed where a cross-encoder judges.
        from sklearn.linear_model import LogisticRegression

        if {row.label for row in rows} != {0, 1}:
            raise InputError(f"probe: the {len(rows)} training rows are not of both labels; expected 0 and 1")
        self._format = PairFormat().fitted(self._task, [row.pair.candidate for row in rows])
        features = self._features(rows)
        self._mean, self._spread = features.mean(axis=0), features.std(axis=0) + 1e-6
        features = self._scaled(features)
        targets, weights = np.asarray(label_shares(rows)), np.asarray(label_weights(rows))
        if self._seed:
            weights *= np.random.default_rng(self._seed).multinomial(len(rows), np.full(len(rows), 1 / len(rows)))
        ones, zeros = np.flatnonzero(targets > 0), np.flatnonzero(targets < 1)
        both = np.concatenate([ones, zeros])
        parts = np.concatenate([(weights * targets)[ones], (weights * (1 - targets))[zeros]])
        self._model = LogisticRegression(C=STRENGTH, max_iter=300).fit(
            features[both], np.repeat([1, 0], [len(ones), len(zeros)]), sample_weight=parts
        )
        return self

    def logits(self, rows: Sequence[LabeledPair]) -> Floats:
        """Return the logits [N] of label 1."""
        if not rows:
            return np.zeros(0)
        features = self._scaled(self._features(rows))
        return np.asarray(self._model.decision_function(features), dtype=np.float64)

    def _features(self, rows: Sequence[LabeledPair]) -> Vectors:
        return pair_features(rows, self._task, self._encoder, self._format)

    def _scaled(self, features: Vectors) -> Vectors:
        features -= self._mean
        features /= self._spread
        return features


def pair_features(rows: Sequence[LabeledPair], task: Task, encoder: PairEncoder, form: PairFormat) -> Vectors:
    """Return features [N, F]: products, absolute differences and cosine of query and candidate, and the candidate.

    For QC also those of query and leaf, the most informative level. Last come the shares of common trigrams, because
    embeddings represent model numbers and brands poorly.
    """
    queries = encoder.embed([form.query_text(row.pair.query) for row in rows], QUERY_PREFIX)
    candidates = encoder.embed([form.candidate_text(task, row.pair.candidate) for row in rows], CANDIDATE_PREFIX)
    parts = [candidates, *_compared(queries, candidates)]
    if task is Task.QC:
        leaves = [(form.levels(row.pair.candidate) or [row.pair.candidate])[-1] for row in rows]  # "," has no level
        parts += _compared(queries, encoder.embed(leaves, CANDIDATE_PREFIX))
    parts.append(np.array([_overlap(row.pair) for row in rows], dtype=np.float32))
    return np.concatenate(parts, axis=1)


def _compared(queries: Vectors, others: Vectors) -> list[Vectors]:
    products = queries * others
    return [products, np.abs(queries - others), products.sum(axis=1, keepdims=True)]


def _overlap(pair: Pair) -> tuple[float, float]:
    """Return the share of the query's trigrams that the candidate has, and the Jaccard index of both."""
    query, candidate = _trigrams(pair.query), _trigrams(pair.candidate)
    shared = len(query & candidate)
    return shared / len(query), shared / len(query | candidate)


def _trigrams(text: str) -> set[str]:
    text = f" {query_key(text)} "
    return {text[at : at + 3] for at in range(len(text) - 2)} or {text}
