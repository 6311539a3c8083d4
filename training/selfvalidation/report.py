"""The report on self-validation: counts, estimated noise, agreement of models, and precision and recall of flags."""

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from relevance.tasks import LabeledPair
from training.data.stored.batches import mentions, to_rows
from training.data.stored.rows import batches_of

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


def known_truth(rows: Iterable[LabeledPair]) -> NDArray[np.int8]:
    """Return whether the label of each row is wrong [N], 0 or 1, by its extra `true_label`; -1 where it has none.

    Negatives that were made have none: what they carry is the truth about the row that they were made of.
    """
    parts = [np.zeros(0, dtype=np.int8)]
    for batch in batches_of(rows):
        parts.append(np.full(batch.num_rows, -1, dtype=np.int8))
        at = np.flatnonzero(mentions(batch, TRUE_LABEL))
        for place, row in zip(at.tolist(), to_rows(batch.take(pa.array(at))), strict=True):
            if (truth := str(row.extra.get(TRUE_LABEL))) in ("0", "1") and row.extra.get("source") != "negative":
                parts[-1][place] = truth != str(row.label)
    return np.concatenate(parts)


def quality(truth: NDArray[np.int8], flagged: NDArray[np.bool_]) -> FlagQuality | None:
    """Return how good flags [N] are by what is known of the rows [N] (`known_truth`), or None where nothing is."""
    known = truth >= 0
    if not known.any():
        return None
    rows, wrong, marked = int(known.sum()), int((truth == 1).sum()), int((flagged & known).sum())
    hits = int((flagged & (truth == 1)).sum())
    return FlagQuality(
        rows=rows,
        wrong=wrong,
        flagged=marked,
        hits=hits,
        precision=hits / marked if marked else None,
        recall=hits / wrong if wrong else None,
        wrong_share=wrong / rows,
    )


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
