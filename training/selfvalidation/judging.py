"""Judges rows by their labels and out-of-fold scores: which rule flags which row, and the suggested decision."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from itertools import compress

import numpy as np
from numpy.typing import ArrayLike, NDArray

from relevance.evaluation.metrics import auc
from relevance.tasks import LabeledPair
from training.data.stored.rows import strata_of
from training.selfvalidation import flags as rules
from training.selfvalidation.grounds import Grounds
from training.selfvalidation.options import Flag, SelfValidationOptions
from training.selfvalidation.outoffold import OutOfFold
from training.selfvalidation.report import Agreement, FlagQuality, RoundReport, known_truth, quality

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Numbers = NDArray[np.int64]


class Suggestion(StrEnum):
    """The suggested decision: `flip` where all kinds of judges are sure, `drop` for a contradiction, else `keep`."""

    KEEP = "keep"
    DROP = "drop"
    FLIP = "flip"


@dataclass(frozen=True)
class Judged:
    """The judgement on N rows: mean score and doubt [N], flags by rule [N], flagged by any [N], all kinds sure [N].

    `thresholds` [N] are the mean thresholds of the judges of each row, `adaptive` the rule that the adaptive one chose.
    `probabilities` [N] are the calibrated mean scores. Rows of one of `groups` [N] (a row and its translations with the
    same label) have one score, the mean of theirs, and so one judgement.
    """

    scores: Floats
    doubts: Floats
    flags: dict[Flag, Bools]
    flagged: Bools
    unanimous: Bools
    same_side: Bools
    joint: rules.ConfidentJoint
    labels: Numbers
    thresholds: Floats
    adaptive: Flag
    probabilities: Floats
    groups: Numbers

    def flags_of(self, row: int) -> tuple[Flag, ...]:
        """Return the rules that flag a row."""
        return tuple(flag for flag, mask in self.flags.items() if mask[row])

    def grounds(self, row: int) -> Grounds:
        """Return what the score of a row was compared with."""
        means, doubts = self._by_label
        same = doubts[self.labels[row]]
        return Grounds(
            threshold=float(self.thresholds[row]),
            means=means,
            worse_than=float(np.searchsorted(same, self.doubts[row]) / len(same)),
            rules=tuple(dict.fromkeys(self.adaptive if flag is Flag.ADAPTIVE else flag for flag in self.flags_of(row))),
        )

    @cached_property
    def _by_label(self) -> tuple[tuple[float, float], tuple[Floats, Floats]]:
        """The mean score of the rows of each label, and their doubts in ascending order."""
        no, yes = (self.labels == each for each in (0, 1))
        means = float(self.scores[no].mean()), float(self.scores[yes].mean())
        return means, (np.sort(self.doubts[no]), np.sort(self.doubts[yes]))

    def suggestion(self, row: int) -> Suggestion:
        """Return the decision that the models suggest for a row."""
        if self.unanimous[row]:
            return Suggestion.FLIP
        return Suggestion.DROP if set(self.flags_of(row)) - {Flag.BOUNDARY} else Suggestion.KEEP


def judge(labels: ArrayLike, found: OutOfFold, options: SelfValidationOptions, groups: Numbers | None = None) -> Judged:
    """Return the judgement on rows by their labels [N] and out-of-fold scores: a pure function.

    `groups` [N] are those of training.data.groups.copy_groups; without them each row is a group.
    """
    y = np.asarray(labels, dtype=np.int64)
    groups = np.arange(len(y)) if groups is None else groups
    found = found.pooled(groups)
    mean = found.scores.mean(axis=0)
    cuts = found.thresholds if options.threshold is None else np.full_like(found.scores, options.threshold)
    cut = cuts.mean(axis=0)
    adaptive = adapted(y, mean, options.sharp_auc)
    by_rule: dict[Flag, Callable[[], Bools]] = {
        Flag.ADAPTIVE: lambda: by_rule[adaptive](),
        Flag.CONTRADICTION: lambda: rules.contradictions(y, mean, cut, options.margin),
        Flag.BOUNDARY: lambda: rules.boundary_band(mean, cut, options.band),
        Flag.CONFIDENT: lambda: rules.confident_learning(y, mean, options.prune),
    }
    flags = {flag: by_rule[flag]() for flag in dict.fromkeys(options.methods)}
    doubts = rules.doubt(y, mean)
    by_any = np.any(list(flags.values()), axis=0)
    return Judged(
        scores=mean,
        doubts=doubts,
        flags=flags,
        flagged=rules.worst(by_any, doubts, int(options.worst_share * len(y) + 1e-9), groups),
        unanimous=rules.all_disagree(y, found.by_kind(), options.relabel_confidence),
        same_side=rules.agreement(found.scores, cuts),
        joint=rules.confident_joint(y, mean),
        labels=y,
        thresholds=cut,
        adaptive=adaptive,
        probabilities=found.calibrated.mean(axis=0),
        groups=groups,
    )


def adapted(labels: NDArray[np.int64], scores: Floats, sharp_auc: float) -> Flag:
    """Return the rule for judges with these out-of-fold scores [N], by how well they rank the labels.

    This project's own rule, set on two cases (docs/log.md): 8 % wrong labels and good judges (the sample), 25 % wrong
    labels and poor ones (real QI rows with flipped labels).
    """
    return Flag.CONTRADICTION if (auc(labels, scores) or 0.0) >= sharp_auc else Flag.CONFIDENT


def round_report(
    rows: Sequence[LabeledPair], judged: Judged, models: int, actions: dict[str, int], spared: int = 0
) -> RoundReport:
    """Return the counts of one round."""
    marked = Counter(compress(strata_of(rows), judged.flagged))
    languages, labels = Counter[str](), Counter[int]()
    for (language, label), count in marked.items():
        languages[language] += count
        labels[label] += count
    joint = judged.joint
    totals = joint.calibrated.sum(axis=1)
    return RoundReport(
        rows=len(rows),
        auc=auc(judged.labels, judged.scores),
        noise_rate=joint.noise_rate,
        noise_by_label={str(s): float(joint.calibrated[s, 1 - s] / totals[s]) for s in (0, 1) if totals[s]},
        class_thresholds={str(j): float(t) for j, t in enumerate(joint.thresholds) if np.isfinite(t)},
        flags={flag.value: int(mask.sum()) for flag, mask in judged.flags.items()},
        flagged=marked.total(),
        flagged_by_language=dict(sorted(languages.items())),
        flagged_by_label={str(label): count for label, count in sorted(labels.items())},
        actions=actions,
        spared=spared,
        agreement=_agreement(judged) if models > 1 else None,
        quality=_quality(rows, judged),
    )


def _agreement(judged: Judged) -> Agreement:
    same, flagged = judged.same_side, judged.flagged
    return Agreement(all_rows=float(same.mean()), flagged_rows=float(same[flagged].mean()) if flagged.any() else None)


def _quality(rows: Sequence[LabeledPair], judged: Judged) -> dict[str, FlagQuality]:
    masks = {flag.value: mask for flag, mask in judged.flags.items()} | {"flagged": judged.flagged}
    truth = known_truth(rows)
    found = {name: quality(truth, mask) for name, mask in masks.items()}
    return {name: value for name, value in found.items() if value is not None}
