"""Actions on judged rows (drop, relabel, weight, soften), and the control: as many rows dropped at random."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from relevance.tasks import LabeledPair
from training.data.labels.weights import LABEL_SHARE, LABEL_WEIGHT, label_cuts, label_shares, label_votes, label_weights
from training.data.stored.batches import in_chunks
from training.data.stored.rows import StoredRows, filtered, stored, strata_of
from training.selfvalidation import flags
from training.selfvalidation.judging import Judged
from training.selfvalidation.options import Action, SelfValidationOptions

ORIGINAL_LABEL = "original_label"

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


def acted_on(judged: Judged, action: Action, most: int) -> Bools:
    """Return True [N] for rows that an action changes or drops: flagged ones, at most `most`, the worst first.

    `relabel` needs judges of every kind that are sure of the other label. `soften` changes all rows, and has no limit.
    """
    if action is Action.REVIEW:
        return np.zeros_like(judged.flagged)
    if action is Action.SOFTEN:
        return np.ones_like(judged.flagged)
    return flags.worst(_wanted(judged, action), judged.doubts, most, judged.groups)


def spared(judged: Judged, action: Action, chosen: Bools) -> int:
    """Return how many rows the action would change beside the `chosen` [N] if it had no limit."""
    return 0 if action in (Action.REVIEW, Action.SOFTEN) else int((_wanted(judged, action) & ~chosen).sum())


def _wanted(judged: Judged, action: Action) -> Bools:
    return judged.flagged & judged.unanimous if action is Action.RELABEL else judged.flagged


def act(
    rows: Sequence[LabeledPair], judged: Judged, options: SelfValidationOptions, chosen: Bools
) -> Sequence[LabeledPair]:
    """Return the rows after the action on the `chosen` [N], in their order; on disk where `rows` are.

    `drop` leaves rows out. `relabel` flips their label and keeps the first one in the extra `original_label`. `weight`
    multiplies their extra `label_weight` (1 where there is none) by the score of their own label; fine-tuning
    multiplies their loss by it. `soften` mixes their label with the judges' probability. `review` changes nothing.
    Rows that do not change are the same objects, unless they are on disk.
    """
    if options.action is Action.DROP:
        return filtered(rows, ~chosen)
    if not chosen.any():
        return rows
    changed = _changed(rows, judged, options, chosen)
    return stored(changed) if isinstance(rows, StoredRows) else list(changed)


def _changed(
    rows: Iterable[LabeledPair], judged: Judged, options: SelfValidationOptions, chosen: Bools
) -> Iterator[LabeledPair]:
    start = 0
    for chunk in in_chunks(rows):
        part = slice(start, start + len(chunk))
        start += len(chunk)
        if options.action is Action.RELABEL:
            yield from (flipped(row) if wrong else row for row, wrong in zip(chunk, chosen[part], strict=True))
        elif options.action is Action.SOFTEN:
            shares = mixtures(label_shares(chunk), label_votes(chunk), judged.probabilities[part], options.mix)
            yield from (softened(row, round(float(share), 6)) for row, share in zip(chunk, shares, strict=True))
        else:
            weights = np.clip(1 - judged.doubts[part], options.min_weight, 1.0) * label_weights(chunk)
            for row, light, weight in zip(chunk, chosen[part], weights.tolist(), strict=True):
                yield replace(row, extra=row.extra | {LABEL_WEIGHT: round(weight, 6)}) if light else row


def mixtures(shares: ArrayLike, votes: ArrayLike, probabilities: ArrayLike, mix: float) -> Floats:
    """Return soft targets [N]: a row's own share of votes for label 1, mixed with the judges' probability, all [N].

    A row with one vote gets `(1 - mix) * label + mix * probability`: soft bootstrapping (Reed et al. 2014, arXiv
    1412.6596; per-row weights in Arazo et al. 2019, arXiv 1904.11238), here with probabilities of models that never saw
    the row. Each further vote counts as much as the first, so that many votes outweigh the judges. This is the idea of
    CROWDLAB (Goh et al. 2022, arXiv 2210.06812), with a weight that is given in place of one estimated from agreement.
    """
    own = (1 - mix) * np.asarray(votes, dtype=np.float64)
    return (own * np.asarray(shares) + mix * np.asarray(probabilities)) / (own + mix)


def softened(row: LabeledPair, share: float) -> LabeledPair:
    """Return a row with this `label_share`. Its label changes only if the share is strictly beyond the row's cut.

    The cut is 0.5 where the row has no `label_cut`. The extra `original_label` keeps the first label.
    """
    [cut] = label_cuts([row])
    label = row.label if share == cut else int(share > cut)
    first = {ORIGINAL_LABEL: row.label} if label != row.label else {}
    return replace(row, label=label, extra=first | row.extra | {LABEL_SHARE: share})


def flipped(row: LabeledPair) -> LabeledPair:
    """Return a row with the other label; the extra `original_label` keeps the first one that it had.

    The share of votes for label 1 changes with the label: it is mirrored at the row's cut (0.5 without `label_cut`).
    """
    mirrored = min(max(2 * label_cuts([row])[0] - label_shares([row])[0], 0.0), 1.0)
    other_share = {LABEL_SHARE: mirrored} if LABEL_SHARE in row.extra else {}
    return replace(row, label=1 - row.label, extra={ORIGINAL_LABEL: row.label} | row.extra | other_share)


def drop_at_random(rows: Sequence[LabeledPair], dropped: Bools, seed: int) -> Sequence[LabeledPair]:
    """Return the rows without as many as `dropped` [N] marks of each language and label, drawn by the seed.

    This is the control: a filter is worth its cost only where it beats it. The rows are on disk where `rows` are.
    """
    numbers: dict[tuple[str, int], int] = {}
    of_row = np.fromiter((numbers.setdefault(each, len(numbers)) for each in strata_of(rows)), np.int16, len(rows))
    rng = np.random.default_rng(seed)
    kept = np.ones(len(rows), dtype=bool)
    for stratum in sorted(numbers):
        members = np.flatnonzero(of_row == numbers[stratum])
        kept[rng.choice(members, size=int(dropped[members].sum()), replace=False)] = False
    return filtered(rows, kept)
