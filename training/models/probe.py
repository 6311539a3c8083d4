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
from training.data.splits import draw
from training.data.stored.batches import in_chunks
from training.embedding.vectors import CANDIDATE_PREFIX, QUERY_PREFIX, PairEncoder, Vectors
from training.progress import Meter

Floats = NDArray[np.float64]


# The inverse L2 penalty (scikit-learn's C), for features of unit variance. It is near the best one on the sample, on
# real QC and on real QI. Choosing it on a dev set with wrong labels gave unstable values (docs/log.md).
STRENGTH = 0.0003
MOST_ROWS = 100_000  # to train on; of more, a sample is drawn. Their features take 0.8 GB at 384 dimensions
_BLOCK_ROWS = 4096  # whose features are made at once


class Probe:
    """One logistic regression with a fixed penalty. Targets and weights of rows (training.data.labels.weights) count.

    A row with a target of .7 counts as .7 of a row of label 1 and .3 of one of label 0: the cross-entropy is the same.

    Seed 0 trains on the rows as they are, any other seed on a bootstrap sample of them. So probes of several seeds
    differ, and their agreement is informative.

    In memory are the features of at most 100,000 rows, which are drawn by the seed where there are more. Rows to score
    are gone through in blocks.
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

        rows = list(draw(rows, MOST_ROWS, self._seed))
        if {row.label for row in rows} != {0, 1}:
            raise InputError(f"probe: the {len(rows)} training rows are not of both labels; expected 0 and 1")
        self._format = PairFormat().fitted(self._task, [row.pair.candidate for row in rows])
        targets, weights = np.asarray(label_shares(rows)), np.asarray(label_weights(rows))
        features = self._all_features(rows)
        self._mean, self._spread = _moments(features)
        features = self._scaled(features)
        if self._seed:
            weights *= np.random.default_rng(self._seed).multinomial(len(rows), np.full(len(rows), 1 / len(rows)))
        # A row of both labels comes a second time, for label 0.
        mixed = np.flatnonzero((targets > 0) & (targets < 1))
        if len(mixed):
            features = np.concatenate([features, features[mixed]])
        own = np.where(targets > 0, targets, 1)
        self._model = LogisticRegression(C=STRENGTH, max_iter=300).fit(
            features,
            np.concatenate([targets > 0, np.zeros(len(mixed))]).astype(np.int8),
            sample_weight=np.concatenate([weights * own, (weights * (1 - targets))[mixed]]),
        )
        return self

    def logits(self, rows: Sequence[LabeledPair]) -> Floats:
        """Return the logits [N] of label 1."""
        found = np.zeros(len(rows))
        with Meter("probe", len(rows), "row") as meter:
            for chunk in in_chunks(rows, _BLOCK_ROWS):
                features = self._scaled(self._features(chunk))
                found[meter.done : meter.done + len(chunk)] = self._model.decision_function(features)
                meter.advance(len(chunk))
        return found

    def _all_features(self, rows: Sequence[LabeledPair]) -> Vectors:
        found = np.zeros((0, 0), dtype=np.float32)
        for start in range(0, len(rows), _BLOCK_ROWS):
            block = self._features(rows[start : start + _BLOCK_ROWS])
            if not start:
                found = np.empty((len(rows), block.shape[1]), dtype=np.float32)
            found[start : start + len(block)] = block
        return found

    def _features(self, rows: Sequence[LabeledPair]) -> Vectors:
        return pair_features(rows, self._task, self._encoder, self._format)

    def _scaled(self, features: Vectors) -> Vectors:
        features -= self._mean
        features /= self._spread
        return features


def _moments(features: Vectors) -> tuple[Vectors, Vectors]:
    """Return the mean [F] and the standard deviation [F] of features [N, F], without a copy of them."""
    mean = features.mean(axis=0, dtype=np.float64)
    blocks = (features[start : start + _BLOCK_ROWS] - mean for start in range(0, len(features), _BLOCK_ROWS))
    squares = sum((np.square(block).sum(axis=0) for block in blocks), np.zeros(features.shape[1]))
    return mean.astype(np.float32), (np.sqrt(squares / len(features)) + 1e-6).astype(np.float32)


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
