"""The weights of a kernel head, solved for: kernel ridge regression of the targets over pairs of the untrained encoder.

The kernel of two pairs is the product of the likeness of their queries and that of their candidates (Ben-Hur and Noble
2005, "Kernel methods for predicting protein-protein interactions"; Stock et al. 2018, arXiv 1803.01575). So a label
speaks for pairs whose query and candidate are both alike, in whatever language. relevance.model.heads has the form.
"""

import logging
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from relevance.errors import MachineError
from relevance.model.heads import HeadSpec
from relevance.text.tokenization import PairTokenizer, TokenizedPair, batches
from training.models.cross_encoder import CrossEncoder, tensors
from training.progress import Meter, Pace

log = logging.getLogger(__name__)

Floats = NDArray[np.float32]

BATCH_TOKENS = 4096
# Chosen on rows of real QC train that no fit saw, while dev was looked at too. docs/log.md has half of both values: its
# kernel takes the mean over path and leaf, this one takes their sum.
RIDGE = 1.0  # of the pairs' own coefficients: the larger, the smoother
SCALAR_WEIGHT = 0.006  # of the scalars' linear kernel beside the product kernel
TANGENT = 4.0  # logits to a share: the slope of the logit at one half; calibration on dev comes after
_BLOCK = 2048  # rows of the kernel that are computed at once


def fit_kernel_head(
    model: CrossEncoder,
    tokenizer: PairTokenizer,
    pairs: Sequence[TokenizedPair],
    targets: NDArray[np.floating],
    weights: NDArray[np.floating],
    seed: int,
) -> None:
    """Set the head's weights by training pairs [N], their targets [N] in [0, 1] and their weights [N] in [0, 1].

    Pairs of weight 0 do not count. Of more than the spec's `landmarks` a sample is drawn by the seed, since the kernel
    of M pairs takes M * M * 4 bytes; of fewer, the rest of the landmarks stays 0. MachineError without the memory.
    """
    counted = landmark_rows(weights, model.spec.landmarks, seed)
    if len(counted) < (found := np.count_nonzero(weights > 0)):
        log.info("kernel head: a sample of %d of %d training rows", len(counted), found)
    means, scalars = _read(model, tokenizer, [pairs[place] for place in counted])
    y, w = (values[counted].astype(np.float64) for values in (targets, weights))
    try:
        head = solved(model.spec, means, scalars, y, w)
    except MemoryError:
        size = 4 * len(counted) ** 2 / 2**30
        raise MachineError(
            f"kernel head: {size:.1f} GiB for {len(counted)} rows are not free; expected fewer head.landmarks"
        ) from None
    model.load_head({name: torch.from_numpy(value) for name, value in head.items()})


def landmark_rows(weights: NDArray[np.floating], most: int, seed: int) -> NDArray[np.int64]:
    """Return the places, ascending, of the training pairs that become landmarks: those that count, or a sample."""
    counted = np.flatnonzero(weights > 0)
    if len(counted) <= most:
        return counted
    return np.sort(np.random.default_rng(seed).permutation(counted)[:most])


def solving_bytes(spec: HeadSpec, rows: int) -> tuple[int, int, int]:
    """Return the bytes that solving for N rows takes: of vectors [N, H] and [N, W], of the kernel, of one block of it.

    A block is held once for each segment, and twice more while it is computed.
    """
    parts = len(spec.parts)
    vectors = 4 * rows * (parts * (spec.hidden_size + 2 * spec.width) + 2 * (spec.cosines + spec.features))
    return vectors, 4 * rows**2, 4 * (parts + 2) * min(_BLOCK, rows) * rows


def solving_operations(spec: HeadSpec, rows: int) -> float:
    """Return the floating-point operations of solving for N rows: of the products of vectors, and of Cholesky's."""
    return 2.0 * len(spec.parts) * spec.width * rows**2 + rows**3 / 3


def solved(
    spec: HeadSpec, means: Sequence[Floats], scalars: Floats, targets: NDArray[np.float64], weights: NDArray[np.float64]
) -> dict[str, Floats]:
    """Return the head's weights by the segments' means, each [N, H], and scalars [N, n] of N pairs."""
    # Heavy, and not needed where models are only read.
    from scipy.linalg import cho_factor, cho_solve

    found: dict[str, Floats] = {}
    for part, mean in zip(spec.parts, means, strict=True):
        centre, axes = _components(mean, spec.width)
        found |= {f"{part}.centre": centre, f"{part}.axes": axes}
    units = spec.units(list(means), found)
    landmarks = found | {
        f"{part}.vectors": unit.T * np.float32(0.5) for part, unit in zip(spec.parts, units, strict=True)
    }
    centre, spread = scalars.mean(axis=0, dtype=np.float64), scalars.std(axis=0, dtype=np.float64) + 1e-3
    scaled = ((scalars - centre) / spread).astype(np.float32)
    kernel = np.empty((len(targets), len(targets)), dtype=np.float32)
    for start in range(0, len(kernel), _BLOCK):
        rows = slice(start, start + _BLOCK)
        kernel[rows] = spec.likeness([unit[rows] for unit in units], landmarks)
        kernel[rows] += SCALAR_WEIGHT * (scaled[rows] @ scaled.T)
    kernel[np.diag_indices_from(kernel)] += (RIDGE / weights).astype(np.float32)
    rate = float(np.average(targets, weights=weights))
    factor = cho_factor(kernel.T, lower=True, overwrite_a=True, check_finite=False)  # as it is, symmetric: no copy
    alpha = TANGENT * cho_solve(factor, (targets - rate).astype(np.float32))
    skip = SCALAR_WEIGHT * (scaled.T @ alpha) / spread
    bias = TANGENT * (rate - 0.5) - float(skip @ centre)
    absent = spec.landmarks - len(alpha)
    for part in spec.parts:
        found[f"{part}.vectors"] = np.pad(landmarks[f"{part}.vectors"], ((0, 0), (0, absent)))
    last = {"out.weight": np.pad(alpha, (0, absent)), "skip.weight": skip, "out.bias": np.array(bias)}
    return {name: np.array(value, dtype=np.float32, order="C") for name, value in (found | last).items()}


def _components(mean: Floats, width: int) -> tuple[Floats, Floats]:
    """Return the centre [H] of means [N, H], and their principal components [H, W], those beyond H or N as zeros."""
    centre = mean.mean(axis=0, dtype=np.float64)
    units = mean - centre
    units /= np.linalg.norm(units, axis=1, keepdims=True) + 1e-12
    axes = np.linalg.eigh(units.T @ units)[1][:, ::-1][:, :width]
    axes = np.pad(axes, ((0, 0), (0, width - axes.shape[1])))
    return centre.astype(np.float32), axes.astype(np.float32)


@torch.inference_mode()
def _read(model: CrossEncoder, tokenizer: PairTokenizer, pairs: Sequence[TokenizedPair]) -> tuple[list[Floats], Floats]:
    """Return what the head reads of pairs [N]: the means [N, H] of each segment, and the scalars [N, n]."""
    model.eval()
    spec, device = model.spec, next(model.parameters()).device
    means = [np.empty((len(pairs), spec.hidden_size), dtype=np.float32) for _ in spec.parts]
    scalars = np.empty((len(pairs), spec.cosines + spec.features), dtype=np.float32)
    with Meter("kernel head", len(pairs), "pairs", 0, Pace("pairs")) as meter:
        for places in batches([len(pair) for pair in pairs], BATCH_TOKENS):
            found, others = model.read(**tensors(tokenizer, [pairs[place] for place in places], device))
            for held, mean in zip(means, found, strict=True):
                held[places] = mean.float().cpu().numpy()
            scalars[places] = torch.cat(others, dim=1).float().cpu().numpy()
            meter.advance(len(places))
    return means, scalars
