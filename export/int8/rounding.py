"""The integers of products: from fp32 weights and what calibration pairs give at their input. Knows no graphs.

Each input of products has one scale, from the largest values that calibration pairs give; each column of weights has
its own. A few channels of a transformer are far larger than the rest and would leave these few steps. So each channel
is divided before it is rounded, and its row of the weights multiplied, by `largest input ** a / largest weight **
(1 - a)` (SmoothQuant: Xiao et al. 2023, arXiv 2211.10438). Here `a` is chosen for each input, by the least error on
calibration pairs, and the division is an operator of its own.

Weights are not each rounded to the nearest integer: what rounding one channel adds to the products is taken off by the
weights of the channels after it, as far as calibration pairs have them together (GPTQ: Frantar et al. 2022, arXiv
2210.17323; here of the rounded inputs, in the order of the channels).
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

SMOOTHINGS = (0.0, 0.3, 0.5, 0.6, 0.7, 0.8)  # values of `a` to try; 0: no division
WEIGHT_STEPS = 63  # 7 bits: without VNNI, sums of two products of 8 bits overflow 16 bits in AVX2
INPUT_STEPS, TABLE_STEPS = 255, 127
DAMPING = 0.01  # of the mean square of a channel, added to each: rows are fewer than weights
CHANNELS_AT_ONCE = 128
TABLE_PART = 10_000  # rows


@dataclass
class Observed:
    """What calibration pairs give at one input of products: the range of each channel, and some rows [N, C]."""

    low: Floats
    high: Floats
    rows: list[Floats] = field(default_factory=list)

    @property
    def largest(self) -> Floats:
        """The largest magnitude of each channel [C]."""
        found: Floats = np.maximum(np.abs(self.low), np.abs(self.high))
        return found


@dataclass(frozen=True, slots=True)
class Fitted:
    """The integers of the products that read one input.

    An input x becomes round(x / `smoothing` / `scale`) + `zero`; the weights [C, O] are `weights` * `weight_scales`.
    """

    smoothing: Floats | None
    scale: np.float32
    zero: np.uint8
    weights: NDArray[np.int8]
    weight_scales: Floats

    def steps(self, rows: Floats) -> Floats:
        """Return rows [N, C] as integers less `zero`, in float32."""
        smoothed = rows if self.smoothing is None else rows / self.smoothing
        found = np.clip(np.round(smoothed / self.scale) + self.zero, 0, INPUT_STEPS) - np.float32(self.zero)
        return found.astype(np.float32)

    def error(self, rows: Floats, expected: Floats) -> float:
        """Return the squared error of the products of rows [N, C], relative to the `expected` ones [N, O]."""
        found = self.steps(rows) @ self.weights.astype(np.float32) * (self.scale * self.weight_scales)
        return float(np.square(found - expected).sum() / max(float(np.square(expected).sum()), 1e-12))


def fit(observed: Observed, weights: Floats) -> Fitted:
    """Return the integers for weights [C, O], with the smoothing that has the least error on the observed rows."""
    rows = np.concatenate(observed.rows)
    expected = rows @ weights
    best = min((nearest(observed, weights, a) for a in SMOOTHINGS), key=lambda fitted: fitted.error(rows, expected))
    smoothed = weights if best.smoothing is None else weights * best.smoothing[:, None]
    integers = _compensated(smoothed / best.weight_scales, best.steps(rows))
    return Fitted(best.smoothing, best.scale, best.zero, integers, best.weight_scales)


def nearest(observed: Observed, weights: Floats, smoothing: float) -> Fitted:
    """Return weights [C, O] in one smoothing, each as the nearest integer."""
    divisors = np.ones(len(weights), np.float32)
    if smoothing:
        inputs, largest = np.maximum(observed.largest, 1e-6), np.maximum(np.abs(weights).max(axis=1), 1e-6)
        divisors = (inputs**smoothing / largest ** (1 - smoothing)).astype(np.float32)
    low, high = min((observed.low / divisors).min(), 0), max((observed.high / divisors).max(), 0)
    scale = _scales(np.float32(high - low), INPUT_STEPS)
    zero = np.uint8(np.clip(np.round(-low / scale), 0, INPUT_STEPS))
    smoothed = weights * divisors[:, None]
    scales = _scales(np.abs(smoothed).max(axis=0), WEIGHT_STEPS)
    return Fitted(divisors if smoothing else None, scale, zero, np.round(smoothed / scales).astype(np.int8), scales)


def _compensated(weights: Floats, rows: Floats) -> NDArray[np.int8]:
    """Return weights [C, O], in steps, as integers whose products with rows [N, C] are near those of the weights."""
    moments = (rows.T @ rows).astype(np.float64) / len(rows)
    moments[np.diag_indices_from(moments)] += DAMPING * moments.trace() / len(moments) + 1e-6
    factor = np.linalg.cholesky(np.linalg.inv(moments)).T.astype(np.float32)
    left, integers = weights.copy(), np.empty(weights.shape, np.int8)
    for begin in range(0, len(weights), CHANNELS_AT_ONCE):
        end = min(begin + CHANNELS_AT_ONCE, len(weights))
        errors = np.empty((end - begin, weights.shape[1]), np.float32)
        for channel in range(begin, end):
            rounded = np.clip(np.round(left[channel]), -WEIGHT_STEPS, WEIGHT_STEPS)
            integers[channel] = rounded
            errors[channel - begin] = (left[channel] - rounded) / factor[channel, channel]
            left[channel + 1 : end] -= np.outer(factor[channel, channel + 1 : end], errors[channel - begin])
        left[end:] -= factor[begin:end, end:].T @ errors
    return integers


def table(rows: Floats) -> tuple[NDArray[np.int8], Floats]:
    """Return a table [V, C] as integers, and the scale of each row [V, 1]."""
    integers, scales = np.empty(rows.shape, np.int8), np.empty((len(rows), 1), np.float32)
    for start in range(0, len(rows), TABLE_PART):  # so that a large table is in memory once
        part = slice(start, start + TABLE_PART)
        scales[part] = _scales(np.abs(rows[part]).max(axis=1, keepdims=True), TABLE_STEPS)
        integers[part] = np.round(rows[part] / scales[part])
    return integers, scales


def _scales(largest: Any, steps: int) -> Any:
    """Return the size of a step, float32, so that `largest` is `steps` of them; 1 where all values are 0."""
    return np.where(largest > 0, largest / steps, 1.0).astype(np.float32)
