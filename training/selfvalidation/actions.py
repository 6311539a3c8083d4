"""Actions on flagged rows (drop, relabel, weight), and the control: the same number of rows dropped at random."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from relevance.tasks import LabeledPair
from training.data.weights import LABEL_SHARE, LABEL_WEIGHT, label_shares, label_weights
from training.selfvalidation.judging import Judged
from training.selfvalidation.options import Action, SelfValidationOptions

ORIGINAL_LABEL = "original_label"

Bools = NDArray[np.bool_]


def acted_on(judged: Judged, action: Action) -> Bools:
    """Return True [N] for rows that an action changes or drops; relabelling needs models that all agree."""
    if action is Action.REVIEW:
        return np.zeros_like(judged.flagged)
    return judged.flagged & judged.unanimous if action is Action.RELABEL else judged.flagged.copy()


def act(rows: Sequence[LabeledPair], judged: Judged, options: SelfValidationOptions) -> list[LabeledPair]:
    """Return the rows after the action, in their order. Rows that it does not change are the same objects.

    `drop` leaves flagged rows out. `relabel` flips the label of those on which all models agree and keeps the first one
    in the extra `original_label`; other flagged rows stay. `weight` multiplies the extra `label_weight` of flagged
    rows (1 where there is none) by the score of their own label; fine-tuning multiplies their loss by it.
    `review` changes nothing.
    """
    chosen = acted_on(judged, options.action)
    if options.action is Action.DROP:
        return [row for row, gone in zip(rows, chosen, strict=True) if not gone]
    if options.action is Action.RELABEL:
        return [flipped(row) if wrong else row for row, wrong in zip(rows, chosen, strict=True)]
    weights = np.clip(1 - judged.doubts, options.min_weight, 1.0) * label_weights(rows)
    return [
        replace(row, extra=row.extra | {LABEL_WEIGHT: round(float(weight), 6)}) if light else row
        for row, light, weight in zip(rows, chosen, weights, strict=True)
    ]


def flipped(row: LabeledPair) -> LabeledPair:
    """Return a row with the other label; the extra `original_label` keeps the first one that it had.

    The share of votes for label 1 changes with the label.
    """
    other_share = {LABEL_SHARE: 1 - label_shares([row])[0]} if LABEL_SHARE in row.extra else {}
    return replace(row, label=1 - row.label, extra={ORIGINAL_LABEL: row.label} | row.extra | other_share)


def drop_at_random(rows: Sequence[LabeledPair], dropped: Bools, seed: int) -> list[LabeledPair]:
    """Return the rows without as many as `dropped` [N] marks of each language and label, drawn by the seed.

    This is the control: a filter is worth its cost only where it beats it.
    """
    places: defaultdict[tuple[str, int], list[int]] = defaultdict(list)
    for at, row in enumerate(rows):
        places[row.pair.language, row.label].append(at)
    rng = np.random.default_rng(seed)
    gone: set[int] = set()
    for stratum in sorted(places):
        members = np.array(places[stratum])
        gone.update(rng.choice(members, size=int(dropped[members].sum()), replace=False).tolist())
    return [row for at, row in enumerate(rows) if at not in gone]
