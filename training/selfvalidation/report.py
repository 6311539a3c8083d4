"""The report on self-validation: counts, estimated noise, agreement of models, and precision and recall of flags."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from relevance.tasks import LabeledPair

TRUE_LABEL = "true_label"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FlagQuality(_Frozen):
    """How a rule's flags compare with known wrong labels, on rows whose extra `true_label` says so.

    `wrong_share` is the precision that flagging at random would have.
    """

    rows: int
    wrong: int
    flagged: int
    hits: int
    precision: float | None
    recall: float | None
    wrong_share: float


class Agreement(_Frozen):
    """The share of all rows, and of flagged rows, that all models label alike."""

    all_rows: float
    flagged_rows: float | None


class RoundReport(_Frozen):
    """One round. `flags` counts rows by rule; a row may have several, `flagged` counts it once.

    `noise_rate` is confident learning's estimate of the share of wrong labels, `noise_by_label` that share of each
    given label. `auc` is that of the out-of-fold scores against the labels as they came (None: one class). `spared`
    counts rows that the action would have changed if `max_share` were larger.
    """

    rows: int
    auc: float | None
    noise_rate: float
    noise_by_label: dict[str, float]
    class_thresholds: dict[str, float]
    flags: dict[str, int]
    flagged: int
    flagged_by_language: dict[str, int]
    flagged_by_label: dict[str, int]
    actions: dict[str, int]
    spared: int = 0
    agreement: Agreement | None
    quality: dict[str, FlagQuality]


class SelfValidationReport(_Frozen):
    """All rounds. `actions` counts changed rows by action, over all rounds."""

    rows_in: int
    rows_out: int
    folds: int
    models: int
    actions: dict[str, int]
    rounds: tuple[RoundReport, ...]

    def text(self) -> str:
        """Return the report in words, a line a fact."""
        done = ", ".join(f"{count:,} {name}" for name, count in self.actions.items()) or "none changed"
        found = [f"{self.rows_in:,} rows in, {self.rows_out:,} out: {done}"]
        for number, part in enumerate(self.rounds, start=1):
            found += [f"round {number}: {line}" for line in _lines(part)]
        return "\n".join(found)


def quality(rows: Sequence[LabeledPair], flagged: NDArray[np.bool_]) -> FlagQuality | None:
    """Return how good flags [N] are by the extra `true_label`, or None where no row has it.

    Negatives that were made are left out: what they carry is the truth about the row that they were made of.
    """
    known = [
        (str(row.extra[TRUE_LABEL]) != str(row.label), bool(flag))
        for row, flag in zip(rows, flagged, strict=True)
        if str(row.extra.get(TRUE_LABEL)) in ("0", "1") and row.extra.get("source") != "negative"
    ]
    if not known:
        return None
    wrong, marked = sum(w for w, _ in known), sum(f for _, f in known)
    hits = sum(w and f for w, f in known)
    return FlagQuality(
        rows=len(known),
        wrong=wrong,
        flagged=marked,
        hits=hits,
        precision=hits / marked if marked else None,
        recall=hits / wrong if wrong else None,
        wrong_share=wrong / len(known),
    )


def counts(values: Sequence[object]) -> dict[str, int]:
    """Return how often each value occurs, by name, in the order of the names."""
    return dict(sorted(Counter(map(str, values)).items()))


def _lines(part: RoundReport) -> list[str]:
    auc = "-" if part.auc is None else f"{part.auc:.3f}"
    found = [f"{part.rows:,} rows judged, AUC out of fold {auc}, estimated noise {100 * part.noise_rate:.1f} %"]
    rules = ", ".join(f"{name} {count:,}" for name, count in part.flags.items())
    found.append(f"{part.flagged:,} flagged ({rules})")
    if part.spared:
        found.append(f"{part.spared:,} of them spared: max_share is reached")
    for title, parts in (("language", part.flagged_by_language), ("label", part.flagged_by_label)):
        if parts:
            found.append(f"flagged by {title}: " + ", ".join(f"{name} {count:,}" for name, count in parts.items()))
    if part.agreement:
        found.append(f"all models agree on {100 * part.agreement.all_rows:.1f} % of the rows")
    for name, good in part.quality.items():
        if good.precision is not None and good.recall is not None:
            known = f"precision {good.precision:.2f}, recall {good.recall:.2f}; at random {good.wrong_share:.2f}"
            found.append(f"{name} against the known labels: {known}")
    return found
