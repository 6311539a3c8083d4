"""The stage: rows are judged out of fold, flagged and acted on, round by round. Takes training rows only."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from relevance.errors import InputError
from relevance.evaluation.metrics import auc
from relevance.tasks import LabeledPair, query_key
from training.data.groups import copy_groups, group_key
from training.data.labels.weights import label_shares, label_votes, label_weights
from training.data.splits import leaks
from training.data.stored.joins import matched
from training.data.stored.rows import filtered, labels_of
from training.fitting.recipe import Recipe
from training.selfvalidation.actions import act, acted_on, spared
from training.selfvalidation.grounds import Grounds
from training.selfvalidation.judging import Judged, Suggestion, judge, round_report
from training.selfvalidation.options import Action, Flag, SelfValidationOptions
from training.selfvalidation.outoffold import OpenEncoder, out_of_fold
from training.selfvalidation.report import RoundReport, SelfValidationReport

log = logging.getLogger(__name__)

_POOR_AUC = 0.7
_REVIEW = "expected better judges or more rows; action review lists the rows and changes none"
DONE = {
    Action.DROP: "dropped",
    Action.RELABEL: "relabelled",
    Action.WEIGHT: "down-weighted",
    Action.SOFTEN: "softened",
}


Rows = Sequence[LabeledPair]


@dataclass(frozen=True, slots=True)
class SelfValidation:
    """How to judge: the recipe of the judges, the options, a folder for finished scores, and held-out rows.

    `held_out` are dev and test rows: none of them may be among the rows to judge. `work` may be shared by runs.
    `encoder` opens the pair encoder of probes over a base model; by default one that keeps vectors beside `work`.
    With `lists_flagged`, flagged rows are kept in memory for a review.
    """

    recipe: Recipe
    options: SelfValidationOptions
    work: Path
    held_out: Sequence[LabeledPair] = ()
    encoder: OpenEncoder | None = None
    lists_flagged: bool = True


@dataclass(frozen=True, slots=True)
class FlaggedRow:
    """A flagged row as it was first judged: its mean score, its flags, the suggested decision and its grounds."""

    row: LabeledPair
    score: float
    doubt: float
    flags: tuple[Flag, ...]
    suggestion: Suggestion
    grounds: Grounds


@dataclass(frozen=True, slots=True)
class Validated:
    """The result: rows, report, flagged rows (worst first), and True [N] for input rows that were dropped.

    Rows are on disk where they were before.
    """

    rows: Sequence[LabeledPair]
    report: SelfValidationReport
    flagged: list[FlaggedRow]
    dropped: NDArray[np.bool_]


def validate_rows(rows: Sequence[LabeledPair], stage: SelfValidation) -> Validated:
    """Judge every row by models that never saw it and act on flagged rows, in as many rounds as `options` say.

    Rounds end early when one changes nothing. Raises InputError where a row is in `held_out` too, where queries or
    labels are too few for the folds, where a round would leave no row of a label, or where the judges' AUC is below
    `least_auc`. Action review is never refused. All rounds together change at most `max_share` of the rows.

    Of rows on disk some 180 bytes each are in memory with one judge, numbers of the judgement, and 50 more with each
    further one; a probe holds a sample of the rows, a cross-encoder all that it trains on.
    """
    _check(rows, stage)
    options = stage.options
    now, places = rows, np.arange(len(rows))
    flagged: dict[int, FlaggedRow] = {}
    reports: list[RoundReport] = []
    acted = 0
    for number in range(options.rounds):
        found = out_of_fold(now, stage.recipe, options, stage.work, stage.encoder, number)
        judged = judge(labels_of(now), found, options, copy_groups(now))
        del found
        if options.action is not Action.REVIEW:
            _check_judges(judged, options)
        changed = acted_on(judged, options.action, int(options.max_share * len(rows) + 1e-9) - acted)
        acted += int(changed.sum())
        if stage.lists_flagged:
            at = np.flatnonzero(judged.flagged)
            for i, row in zip(at.tolist(), filtered(now, judged.flagged), strict=True):
                flagged.setdefault(int(places[i]), _flagged_row(row, judged, i))
        after = act(now, judged, options, changed)
        actions = _done(now, after, changed, options.action)
        left_over = spared(judged, options.action, changed)
        reports.append(round_report(now, judged, len(options.models), actions, left_over))
        now = after
        _check_labels(now, number + 1)
        if options.action is Action.DROP:
            places = places[~changed]
        if not changed.any():
            break
    dropped = np.ones(len(rows), dtype=bool)
    dropped[places] = False
    worst_first = sorted(flagged.values(), key=lambda found: -found.doubt)
    return Validated(now, _report(rows, now, options, reports), worst_first, dropped)


def _done(before: Rows, after: Rows, changed: NDArray[np.bool_], action: Action) -> dict[str, int]:
    """Return the counts of changed rows; softened ones whose label changed too count as relabelled beside."""
    found = {DONE[action]: int(changed.sum())} if changed.any() else {}
    if action is Action.SOFTEN:
        flips = int((labels_of(before) != labels_of(after)).sum())
        found |= {DONE[Action.RELABEL]: flips} if flips else {}
    return found


def _flagged_row(row: LabeledPair, judged: Judged, at: int) -> FlaggedRow:
    scores = float(judged.scores[at]), float(judged.doubts[at])
    return FlaggedRow(row, *scores, judged.flags_of(at), judged.suggestion(at), judged.grounds(at))


def _report(
    rows: Sequence[LabeledPair], now: Sequence[LabeledPair], options: SelfValidationOptions, reports: list[RoundReport]
) -> SelfValidationReport:
    total: dict[str, int] = {}
    for part in reports:
        for name, count in part.actions.items():
            total[name] = total.get(name, 0) + count
    return SelfValidationReport(
        rows_in=len(rows),
        rows_out=len(now),
        folds=options.folds,
        models=len(options.models),
        actions=total,
        rounds=tuple(reports),
    )


def _check(rows: Sequence[LabeledPair], stage: SelfValidation) -> None:
    """Raise InputError for held-out rows among those to judge; warn where only a query is shared."""
    shared = matched(map(_identity, rows), len(rows), map(_identity, stage.held_out)) >= 0
    if count := int(shared.sum()):
        first = next(compress(rows, shared))
        raise InputError(
            f"{count} of {len(rows)} rows are held out (first: id {first.id!r}, query "
            f"{first.pair.query!r}); expected training rows only: self-validation never changes dev or test"
        )
    if leaked := leaks(stage.held_out, rows):
        log.warning("%d held-out queries are among the rows too (%r ...)", len(leaked), leaked[0])
    if stage.options.action is Action.WEIGHT:
        label_weights(rows)  # those out of range are named before anything is trained
    if stage.options.action is Action.SOFTEN:
        label_shares(rows), label_votes(rows)


def _check_judges(judged: Judged, options: SelfValidationOptions) -> None:
    """Raise InputError where the judges' AUC is too low to act on; warn where it is poor."""
    area = auc(judged.labels, judged.scores)
    if area is not None and area < options.least_auc:
        raise InputError(
            f"self-validation: the judges' AUC out of fold is {area:.2f}, below least_auc {options.least_auc:g}: most "
            f"of their flags would be wrong; {_REVIEW}"
        )
    if area is not None and area < _POOR_AUC:
        log.warning("self-validation: the judges' AUC out of fold is %.2f: expect many wrong flags; review them", area)


def _identity(row: LabeledPair) -> str:
    return f"{group_key(row.pair.query)}\n{query_key(row.pair.candidate)}"  # keys hold no line break


def _check_labels(rows: Sequence[LabeledPair], number: int) -> None:
    labels = set(labels_of(rows).tolist())
    if labels != {0, 1}:
        raise InputError(
            f"round {number} leaves {len(rows)} rows with labels {sorted(labels)}; expected both 0 and 1: the judges "
            "are too weak for these rows, or flag too much: lower worst_share"
        )
