"""Where a head starts: as the best cheap scorer of its training pairs. This project's own method (docs/log.md)."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from relevance.model.heads import HeadKind
from relevance.text.tokenization import PairTokenizer, TokenizedPair, batches
from training.models.cross_encoder import CrossEncoder, tensors
from training.models.kernel_head import fit_kernel_head

Floats = NDArray[np.float64]

BATCH_TOKENS = 4096
STRENGTH = 0.1  # inverse L2 penalty, for scalars of unit variance
FEWEST_START_PAIRS, MOST_START_PAIRS = 600, 2000  # training pairs from which the head's first weights are computed:
START_SHARE = 0.1  # this share of them, within these bounds


def set_head(
    model: CrossEncoder,
    tokenizer: PairTokenizer,
    pairs: Sequence[TokenizedPair],
    targets: Floats,
    weights: Floats,
    seed: int,
) -> None:
    """Start a head from some of the training pairs [N]; solve for a kernel head, which no step trains, by all."""
    if model.spec.kind is HeadKind.KERNEL:
        fit_kernel_head(model, tokenizer, pairs, targets, weights, seed)
        return
    some = start_rows(len(pairs))
    start_head(model, tokenizer, [pairs[i] for i in some], targets[some].tolist())


def start_rows(count: int) -> NDArray[np.int64]:
    """Return the places of those of `count` training pairs that start the head: all over, as files may be sorted."""
    wanted = np.clip(round(START_SHARE * count), FEWEST_START_PAIRS, MOST_START_PAIRS)
    return np.linspace(0, count - 1, min(int(wanted), count)).astype(np.int64)


def start_head(
    model: CrossEncoder, tokenizer: PairTokenizer, pairs: Sequence[TokenizedPair], targets: Sequence[float]
) -> None:
    """Start the linear term of a head as a logistic regression of targets [N] in [0, 1] over the scalars of pairs [N].

    The scalars are cosines and features, so this is Platt's calibration (1999) of more than one score. The perceptron
    of a paired head is silent at first. So a run starts from what the encoder and the features know already.
    """
    # Heavy, and not needed where models are only read.
    from sklearn.linear_model import LogisticRegression

    shares = np.asarray(targets, dtype=np.float64)
    rate = (shares.sum() + 1) / (len(shares) + 2)  # smoothed: a sample may have one label only
    if not model.spec.kind.reads_features:
        return
    x = scalars(model, tokenizer, pairs)
    weights, bias = np.zeros(x.shape[1]), np.log(rate / (1 - rate))
    if x.shape[1]:
        mean, spread = x.mean(axis=0), x.std(axis=0) + 1e-3
        twice, labels = np.concatenate([(x - mean) / spread] * 2), np.repeat([1, 0], len(x))
        found = LogisticRegression(C=STRENGTH, max_iter=300).fit(twice, labels, np.concatenate([shares, 1 - shares]))
        weights = found.coef_[0] / spread
        bias = float(found.intercept_[0] - weights @ mean)
    with torch.no_grad():
        model.head["skip_weight"].copy_(torch.from_numpy(weights))
        model.head["out_bias"].fill_(bias)
        if model.spec.kind is HeadKind.PAIRED:
            model.head["out_weight"].zero_()


@torch.inference_mode()
def scalars(model: CrossEncoder, tokenizer: PairTokenizer, pairs: Sequence[TokenizedPair]) -> Floats:
    """Return what the linear term of a head reads of pairs [N, n]; a paired head: the cosine of both texts first."""
    model.eval()
    device = next(model.parameters()).device
    parts: dict[int, Floats] = {}
    for places in batches([len(pair) for pair in pairs], BATCH_TOKENS):
        found = model.scalars(**tensors(tokenizer, [pairs[place] for place in places], device))
        parts |= dict(zip(places, found.double().cpu().numpy(), strict=True))
    return np.stack([parts[place] for place in range(len(pairs))])
