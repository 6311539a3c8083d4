"""From the encoder's hidden states to one logit per pair. This project's own design. Knows no framework.

It uses array operators only, so the same code runs on torch tensors (training, export) and on numpy arrays (tests). The
kernel needs no torch, and a head is the same in the checkpoint and in its ONNX graph.

- `stock`: the architecture's own sequence-classification head; no code here.
- `mean`: one linear layer over the mean of all tokens' hidden states.
- `paired`: q and c are the means over the query's and the candidate's own tokens; a one-hidden-layer perceptron reads
  q * c, abs(q - c), their mean and their cosine, and a weighted cosine is added (as in sentence-BERT's features,
  Reimers and Gurevych 2019, but over the segments of one jointly encoded pair).

With `prior`, the category prior (relevance.prior) is added to the logit, weighted, and is read by the perceptron too.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from pydantic import Field

from relevance.prior import FEATURES
from relevance.strict import StrictModel

Array = Any  # a torch tensor or a numpy array


class HeadKind(StrEnum):
    """Which head turns hidden states into a logit."""

    STOCK = "stock"
    MEAN = "mean"
    PAIRED = "paired"


class HeadSpec(StrictModel):
    """A head, and how it finds the two segments in the token ids."""

    kind: HeadKind
    hidden_size: int = Field(gt=0, description="width H of the encoder's hidden states")
    width: int = Field(64, gt=0, description="width W of the paired head's hidden layer")
    special_ids: tuple[int, ...] = Field((), description="ids that belong to neither segment")
    separator_id: int = Field(-1, description="the id that ends the query's segment")
    prior: bool = Field(False, description="read the category prior of the pair; see relevance.prior")

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the name and shape of each parameter of the head; `stock` has none here."""
        h, w = self.hidden_size, self.width
        prior: dict[str, tuple[int, ...]] = {"prior.weight": (FEATURES,)} if self.prior else {}
        if self.kind is HeadKind.MEAN:
            return {"out.weight": (h,), "out.bias": ()} | prior
        if self.kind is HeadKind.PAIRED:
            prior |= {"prior_hidden.weight": (FEATURES, w)} if self.prior else {}
            mixed = {f"{part}.weight": (h, w) for part in ("product", "difference", "mean")} | prior
            return mixed | {"cosine.weight": (w,), "hidden.bias": (w,), "out.weight": (w,), "skip": (), "out.bias": ()}
        return {}

    def logits(
        self, hidden: Array, ids: Array, mask: Array, weights: Mapping[str, Array], prior: Array | None = None
    ) -> Array:
        """Return logits [B] from hidden states [B, T, H], token ids [B, T] and attention mask [B, T] (1: a token).

        `prior` [B, 3] is read by a head with `prior` only.
        """
        read = prior if self.prior else None
        added = 0.0 if read is None else read @ weights["prior.weight"]
        if self.kind is HeadKind.MEAN:
            return _mean(hidden, mask) @ weights["out.weight"] + weights["out.bias"] + added
        query_mask, candidate_mask = self.segments(ids, mask)
        return _paired(_mean(hidden, query_mask), _mean(hidden, candidate_mask), weights, read) + added

    def segments(self, ids: Array, mask: Array) -> tuple[Array, Array]:
        """Return two masks [B, T], 1 at the tokens of the query and of the candidate, special tokens left out."""
        plain = mask
        for special in self.special_ids:
            plain = plain * (ids != special)
        after = (mask * (ids == self.separator_id)).cumsum(1) > 0
        return plain * (after == 0), plain * after


def _mean(hidden: Array, mask: Array) -> Array:
    """Mean of hidden states [B, T, H] over the masked tokens -> [B, H]; zeros where the mask is empty."""
    weight = mask[:, :, None] * (hidden[:, :1, :1] * 0 + 1)  # the mask in the dtype of the hidden states
    total = weight.sum(1)
    return (hidden * weight).sum(1) / (total + (total == 0))


def _paired(q: Array, c: Array, w: Mapping[str, Array], prior: Array | None) -> Array:
    """The paired head over segment means q and c, each [B, H], and the prior [B, 3] -> [B]."""
    # Two roots: the product under one root would overflow in float16. The constant keeps gradients finite at zero.
    cosine = (q * c).sum(1) / (((q * q).sum(1) + 1e-6) ** 0.5 * ((c * c).sum(1) + 1e-6) ** 0.5)
    hidden = (
        (q * c) @ w["product.weight"]
        + abs(q - c) @ w["difference.weight"]
        + ((q + c) * 0.5) @ w["mean.weight"]
        + cosine[:, None] * w["cosine.weight"]
        + w["hidden.bias"]
    )
    if prior is not None:
        hidden = hidden + prior @ w["prior_hidden.weight"]
    return (hidden * (hidden > 0)) @ w["out.weight"] + cosine * w["skip"] + w["out.bias"]
