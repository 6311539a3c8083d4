"""How good a checkpoint is on labelled rows, as a report (JSON) and as a table that a person reads."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike
from rich.table import Table

from relevance.card import TOKENIZER_FILE, ModelCard
from relevance.metrics import Interval, Report, Scored, Slice, evaluate
from relevance.tasks import LabeledPair, query_key
from relevance.tokenization import PairTokenizer
from training.crossencoder import CrossEncoder, predict_logits


def score_rows(checkpoint: Path, rows: Sequence[LabeledPair]) -> tuple[ModelCard, np.ndarray]:
    """Return a checkpoint's card and its scores [N] for rows."""
    card, logits = score_logits(checkpoint, rows)
    return card, card.scores(logits)


def score_logits(checkpoint: Path, rows: Sequence[LabeledPair]) -> tuple[ModelCard, np.ndarray]:
    """Return a checkpoint's card and its logits [N] for rows, before calibration."""
    card = ModelCard.load(checkpoint)
    tokenizer = PairTokenizer.from_file(checkpoint / TOKENIZER_FILE, card.max_length, card.pad_id)
    pairs = tokenizer.encode_pairs(card.texts([row.pair for row in rows]))
    return card, predict_logits(CrossEncoder.from_checkpoint(checkpoint), tokenizer, pairs)


def report_scores(
    rows: Sequence[LabeledPair],
    scores: ArrayLike,
    threshold: float,
    seen: Sequence[str],
    *,
    seed: int = 0,
    clusters: Sequence[str] | None = None,
) -> Report:
    """Return the metrics of scored rows, resampled by query, or by `clusters` [N] (a query and its translations)."""
    scored = Scored(
        labels=[row.label for row in rows],
        scores=np.asarray(scores, dtype=np.float64).tolist(),
        queries=clusters or [query_key(row.pair.query) for row in rows],
        languages=[row.pair.language for row in rows],
    )
    return evaluate(scored, threshold, seen, seed=seed)


def metrics_table(report: Report, title: str) -> Table:
    """Return a table with a line for all rows, seen and unseen languages, and each language."""
    caption = f"threshold {report.threshold:.3f}; 95 % intervals, {report.resamples} bootstrap samples of queries"
    table = Table(title=title, caption=caption)
    for column in ("rows of", "rows", "positive", "F1", "always-yes F1", "F1 gain", "AUC"):
        table.add_column(column, justify="left" if column == "rows of" else "right", no_wrap=True)
    parts = [("all", report.all), ("seen languages", report.seen), ("unseen languages", report.unseen)]
    for name, part in [*parts, *report.languages.items()]:
        if part is not None:
            table.add_row(name, *_cells(part))
    return table


def _cells(part: Slice) -> list[str]:
    values = [_show(i) for i in (part.f1, part.always_yes_f1, part.f1_gain, part.auc)]
    return [str(part.rows), f"{part.positives / part.rows:.0%}", *values]


def _show(interval: Interval) -> str:
    if interval.value is None:
        return "-"
    if interval.low is None or interval.high is None:
        return f"{interval.value:.3f}"
    return f"{interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]"
