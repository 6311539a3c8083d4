"""From the encoder's hidden states to one logit per pair. This project's own design. Knows no framework.

It uses array operators only, so the same code runs on torch tensors (training, export) and on numpy arrays (tests). The
kernel needs no torch, and a head is the same in the checkpoint and in its ONNX graph.

- `stock`: the architecture's own sequence-classification head. Of several outputs, `label` is the one that counts.
- `mean`: one linear layer over the mean of all tokens' hidden states, plus a linear term of the pair's features.
- `paired`: q, c and l are the means over the tokens of the query, of the candidate, and of the candidate's last level
  (category paths only). A one-hidden-layer perceptron reads, after a layer norm, their products and absolute
  differences (as in sentence-BERT, Reimers and Gurevych 2019, but over segments of one jointly encoded pair), the mean
  of q and c, the candidate itself, and the scalars of the pair: cosines and features. A linear term of the scalars is
  added, so that the head starts as a calibrated cheap scorer (training.models.cross_encoder).
- `kernel`: kernel ridge regression over q, c, l of the untrained encoder. A pair is compared with M training pairs by
  a product kernel (Ben-Hur and Noble 2005; Stock et al. 2018): the likeness of both queries times that of both
  candidates, for category paths the sum of those of the paths and of their last levels. The likeness of two vectors is
  ((1 + cosine) / 2) ** 4, after their mean over the training rows is subtracted and W principal components are kept. A
  linear term of the scalars is added. The weights are solved for, not trained (training.models.kernel_head).
- `yes_no`: the two rows of a language model's own head that belong to the answers of a prompt (relevance.text.prompt),
  over the last token. The logit is that of `yes` minus that of `no`, so its sigmoid is the softmax over both (arXiv
  2510.21671). It reads no features.

Features are numbers of a pair that its tokens do not show: lexical overlap (relevance.text.overlap) and the category
prior (relevance.model.prior).
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Self

from pydantic import Field

from relevance.model.prior import FEATURES as PRIORS
from relevance.storage.strict import StrictModel
from relevance.text.overlap import NAMES

Array = Any  # a torch tensor or a numpy array


class HeadKind(StrEnum):
    """Which head turns hidden states into a logit."""

    STOCK = "stock"
    MEAN = "mean"
    PAIRED = "paired"
    KERNEL = "kernel"
    YES_NO = "yes_no"

    @property
    def reads_features(self) -> bool:
        """Whether such a head can read features of a pair beside its tokens."""
        return self is HeadKind.MEAN or self.reads_segments

    @property
    def reads_segments(self) -> bool:
        """Whether such a head reads query and candidate as two segments of a pair's tokens."""
        return self in (HeadKind.PAIRED, HeadKind.KERNEL)


class HeadSpec(StrictModel):
    """A head, and how it finds the segments in the token ids."""

    kind: HeadKind
    hidden_size: int = Field(gt=0, description="width H of the encoder's hidden states")
    width: int = Field(64, gt=0, description="paired: width W of the hidden layer; kernel: components W of a segment")
    landmarks: int = Field(16384, gt=0, description="training pairs M that a kernel head compares a pair with")
    special_ids: tuple[int, ...] = Field((), description="ids that belong to neither segment")
    separator_id: int = Field(-1, description="the id that ends the query's segment")
    level_separator_id: int = Field(-1, description="the id between the levels of a category path; -1: no levels")
    overlap: bool = Field(False, description="the pair's features begin with its overlap (relevance.text.overlap)")
    prior: bool = Field(False, description="the pair's features end with its category prior (relevance.model.prior)")
    label: int = Field(0, ge=0, description="stock head: which of its outputs means relevant")
    softmax: bool = Field(
        True, description="stock head of several outputs: the score is the label's softmax share, else its own sigmoid"
    )

    @property
    def features(self) -> int:
        """The number F of features of a pair."""
        return len(NAMES) * self.overlap + PRIORS * self.prior

    @property
    def cosines(self) -> int:
        """The number of cosines among the scalars of the paired head: of query and candidate, of query and leaf."""
        return len(self.parts) - 1

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of the segments of a pair."""
        return ("query", "candidate", "leaf") if self.level_separator_id >= 0 else ("query", "candidate")

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the name and shape of each parameter of the head; `stock` has none here."""
        h, w = self.hidden_size, self.width
        if self.kind is HeadKind.MEAN:
            return {"out.weight": (h,), "skip.weight": (self.features,), "out.bias": ()}
        if self.kind is HeadKind.PAIRED:
            leaf = ("leaf_product", "leaf_difference") if self.level_separator_id >= 0 else ()
            mixed = {f"{part}.weight": (h, w) for part in ("product", "difference", "mean", "candidate", *leaf)}
            scalars = self.cosines + self.features
            norm = {"norm.scale": (h,), "norm.bias": (h,)}
            last = {"hidden.bias": (w,), "out.weight": (w,), "skip.weight": (scalars,), "out.bias": ()}
            return mixed | norm | {"scalars.weight": (scalars, w)} | last
        if self.kind is HeadKind.KERNEL:
            centres = {f"{part}.centre": (h,) for part in self.parts}
            axes = {f"{part}.axes": (h, w) for part in self.parts}
            vectors = {f"{part}.vectors": (w, self.landmarks) for part in self.parts}
            last = {"out.weight": (self.landmarks,), "skip.weight": (self.cosines + self.features,), "out.bias": ()}
            return centres | axes | vectors | last
        if self.kind is HeadKind.YES_NO:
            return {"answers.weight": (2, h), "answers.bias": (2,)}  # yes, no
        return {}

    def without_prior(self, weights: Mapping[str, Array]) -> tuple[Self, dict[str, Array]]:
        """Return a head that reads no category prior, and its weights: as if the prior were always 0."""
        kept = len(weights["skip.weight"]) - PRIORS * self.prior
        cut = {name: weights[name][:kept] for name in ("skip.weight", "scalars.weight") if name in weights}
        return self.model_copy(update={"prior": False}), dict(weights) | cut

    def logits(self, hidden: Array, ids: Array, mask: Array, weights: Mapping[str, Array], features: Array) -> Array:
        """Return logits [B] from hidden states [B, T, H], token ids [B, T], mask [B, T] (1: a token), features [B, F].

        F may be 0. Padding may be on either side.
        """
        if self.kind is HeadKind.YES_NO:
            rows, bias = weights["answers.weight"], weights["answers.bias"]
            return _mean(hidden, _last(mask)) @ (rows[0] - rows[1]) + (bias[0] - bias[1])
        if self.kind is HeadKind.MEAN:
            logits = _mean(hidden, mask) @ weights["out.weight"] + weights["out.bias"]
            return logits + features @ weights["skip.weight"] if self.features else logits
        means = self.means(hidden, ids, mask)
        scalars = self.scalars(means, features)
        if self.kind is HeadKind.KERNEL:
            likeness = self.likeness(self.units(means, weights), weights)
            return likeness @ weights["out.weight"] + _linear(weights["out.bias"], scalars, weights["skip.weight"])
        return _paired(means, scalars, weights)

    def units(self, means: list[Array], weights: Mapping[str, Array]) -> list[Array]:
        """Return what a kernel head compares: of each mean [B, H] the principal components [B, W], at length 1."""
        named = zip(self.parts, means, strict=True)
        return [_unit((mean - weights[f"{part}.centre"]) @ weights[f"{part}.axes"]) for part, mean in named]

    def likeness(self, units: list[Array], weights: Mapping[str, Array]) -> Array:
        """Return the product kernel [B, M] of B pairs, by their units, and the landmarks of a kernel head.

        Vectors of landmarks are of length 1/2, so that a product plus 1/2 is (1 + cosine) / 2.
        """
        named = zip(self.parts, units, strict=True)
        query, candidate, *leaf = (_fourth_power(unit @ weights[f"{part}.vectors"] + 0.5) for part, unit in named)
        return query * (candidate + leaf[0] if leaf else candidate)

    def stock_logits(self, outputs: Array) -> Array:
        """Return logits [B] from the outputs [B, L] of a stock head; torch tensors only.

        With softmax, the logit is z - log(sum of exp of the other outputs): its sigmoid is the label's softmax share.
        For two labels that is their difference.
        """
        own = outputs[:, self.label]
        if outputs.shape[1] == 1 or not self.softmax:
            return own
        others = [place for place in range(outputs.shape[1]) if place != self.label]
        return own - outputs[:, others].logsumexp(1)

    def means(self, hidden: Array, ids: Array, mask: Array) -> list[Array]:
        """Return the means [B, H] over the segments: query, candidate and, with levels, leaf."""
        return [_mean(hidden, segment) for segment in self.segments(ids, mask)]

    def scalars(self, means: list[Array], features: Array) -> list[Array]:
        """Return the scalars of pairs, each [B, n]: the cosine of the query and each other segment, the features."""
        cosines = [_cosine(means[0], other)[:, None] for other in means[1:]]
        return [*cosines, features] if self.features else cosines

    def segments(self, ids: Array, mask: Array) -> list[Array]:
        """Return masks [B, T], 1 at the tokens of the query, of the candidate and, with levels, of the last level.

        Special tokens are left out. A path of one level is its own last level.
        """
        plain = mask
        for special in self.special_ids:
            plain = plain * (ids != special)
        after = (mask * (ids == self.separator_id)).cumsum(1) > 0
        query, candidate = plain * (after == 0), plain * after
        if self.level_separator_id < 0:
            return [query, candidate]
        breaks = candidate * (ids == self.level_separator_id)
        is_last = breaks.cumsum(1) == breaks.sum(1)[:, None]
        return [query, candidate, candidate * is_last * (ids != self.level_separator_id)]


def _mean(hidden: Array, mask: Array) -> Array:
    """Mean of hidden states [B, T, H] over the masked tokens -> [B, H]; zeros where the mask is empty."""
    weight = mask[:, :, None] * (hidden[:, :1, :1] * 0 + 1)  # the mask in the dtype of the hidden states
    total = weight.sum(1)
    return (hidden * weight).sum(1) / (total + (total == 0))


def _last(mask: Array) -> Array:
    """Return a mask [B, T], 1 at the last token of each row alone, wherever its padding is."""
    return mask * (mask.cumsum(1) == mask.sum(1)[:, None])


def _cosine(a: Array, b: Array) -> Array:
    """Return the cosines [B] of two sets of vectors [B, H]."""
    # Two roots: the product under one root would overflow in float16. The constant keeps gradients finite at zero.
    return (a * b).sum(1) / (((a * a).sum(1) + 1e-6) ** 0.5 * ((b * b).sum(1) + 1e-6) ** 0.5)


def _unit(x: Array) -> Array:
    """Return vectors [B, H] at length 1; zeros stay."""
    return x / ((x * x).sum(1) + 1e-12)[:, None] ** 0.5


def _fourth_power(x: Array) -> Array:
    square = x * x
    return square * square


def _linear(total: Array, parts: list[Array], weights: Array) -> Array:
    """Add to a total, [B] or [B, W], the products of scalars, each [B, n], side by side, and weights, [N] or [N, W]."""
    place = 0
    for part in parts:
        total = total + part @ weights[place : (place := place + part.shape[1])]
    return total


def _normed(x: Array, w: Mapping[str, Array]) -> Array:
    """Layer norm of vectors [B, H] (Ba et al. 2016)."""
    x = x - x.mean(1)[:, None]
    return x / ((x * x).mean(1)[:, None] + 1e-5) ** 0.5 * w["norm.scale"] + w["norm.bias"]


def _paired(means: list[Array], scalars: list[Array], w: Mapping[str, Array]) -> Array:
    """The paired head over the segments' means, each [B, H], and the scalars of the pairs, each [B, n] -> [B]."""
    q, c, *leaf = (_normed(mean, w) for mean in means)
    hidden = (
        (q * c) @ w["product.weight"]
        + abs(q - c) @ w["difference.weight"]
        + ((q + c) * 0.5) @ w["mean.weight"]
        + c @ w["candidate.weight"]
        + w["hidden.bias"]
    )
    for last in leaf:
        hidden = hidden + (q * last) @ w["leaf_product.weight"] + abs(q - last) @ w["leaf_difference.weight"]
    hidden = _linear(hidden, scalars, w["scalars.weight"])
    return (hidden * (hidden > 0)) @ w["out.weight"] + _linear(w["out.bias"], scalars, w["skip.weight"])
