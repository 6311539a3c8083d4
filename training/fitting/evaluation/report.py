"""The metrics of a checkpoint or a bundle on labelled rows: as a report (JSON) and as a table for the terminal."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike
from rich.console import Group
from rich.table import Table

from relevance.evaluation.metrics import Report, Scored, evaluate
from relevance.evaluation.ranking import RankingReport
from relevance.evaluation.soundness import Labelling, findings
from relevance.model.bundle import MANIFEST_FILE, Bundle
from relevance.model.card import ModelCard
from relevance.model.inputs import PairInputs
from relevance.tasks import LabeledPair, Pair
from relevance.text.tokenization import TokenizedPair
from training.data.groups import linked_groups
from training.data.rankings import lists_of
from training.fitting.rows.truncation import encode
from training.models.cross_encoder import CrossEncoder, predict_logits


@dataclass(frozen=True)
class OpenedModel:
    """An opened checkpoint or bundle: its card, how it reads pairs, and the function from both to logits [N]."""

    card: ModelCard
    inputs: PairInputs
    run: Callable[[Sequence[Pair], Sequence[TokenizedPair]], np.ndarray]

    @classmethod
    def open(cls, folder: Path) -> "OpenedModel":
        """Open a folder of `relevance train` or of `relevance export`. Raises CheckpointError or BundleError."""
        if (folder / MANIFEST_FILE).is_file():
            from relevance.model.cascade_session import open_model  # needs onnxruntime

            opened = open_model(Bundle.open(folder))
            return cls(opened.bundle.manifest, opened.inputs, lambda pairs, tokens: opened.read(pairs, tokens).logits)
        card = ModelCard.load(folder)
        inputs = PairInputs.from_checkpoint(folder, card)
        model = CrossEncoder.from_checkpoint(folder)
        return cls(card, inputs, lambda pairs, tokens: predict_logits(model, inputs.tokenizer, tokens))

    def logits(self, rows: Sequence[LabeledPair], name: str = "rows") -> np.ndarray:
        """Return the logits [N] of rows, before calibration; log how many rows were truncated."""
        pairs = [row.pair for row in rows]
        return self.run(pairs, encode(self.inputs, pairs, name))


def card_of(folder: Path) -> ModelCard:
    """Return the card of a checkpoint or a bundle. Raises CheckpointError or BundleError."""
    return Bundle.open(folder).manifest if (folder / MANIFEST_FILE).is_file() else ModelCard.load(folder)


def score_logits(folder: Path, rows: Sequence[LabeledPair]) -> tuple[ModelCard, np.ndarray]:
    """Return the card of a checkpoint or a bundle and its logits [N] for rows, before calibration."""
    model = OpenedModel.open(folder)
    return model.card, model.logits(rows)


def score_rows(folder: Path, rows: Sequence[LabeledPair]) -> tuple[ModelCard, np.ndarray]:
    """Return the card of a checkpoint or a bundle and its scores [N] for rows."""
    card, logits = score_logits(folder, rows)
    return card, card.scores(logits, [row.pair.language for row in rows])


def scored_rows(rows: Sequence[LabeledPair], scores: ArrayLike, card: ModelCard) -> Scored:
    """Return rows [N] with their scores, and the thresholds of their languages, as the service labels them.

    Intervals over them resample groups of linked rows: a query with its translations and the rows made of it.
    """
    languages = [row.pair.language for row in rows]
    return Scored(
        labels=[row.label for row in rows],
        scores=np.asarray(scores, dtype=np.float64).tolist(),
        queries=linked_groups(rows),
        languages=languages,
        thresholds=card.thresholds(languages).tolist(),
        lists=lists_of(rows),
    )


def report_model(rows: Sequence[LabeledPair], scores: ArrayLike, card: ModelCard, *, seed: int = 0) -> Report:
    """Return the metrics of rows [N]: see `scored_rows`."""
    return evaluate(scored_rows(rows, scores, card), card.threshold, card.seen_languages, seed=seed)


def judge_labels(rows: Sequence[LabeledPair], scores: ArrayLike, card: ModelCard) -> tuple[str, ...]:
    """Return what is wrong with the labels of rows [N] of these scores: see relevance.evaluation.soundness."""
    languages = [row.pair.language for row in rows]
    return findings(Labelling(scores, card.labels(scores, languages), [row.label for row in rows], languages))


def report_tables(report: Report, title: str) -> Group:
    """Return the metrics as a table, and the ranking metrics as another where any query is ranked."""
    tables = [_metrics_table(report, title)]
    if report.ranking and report.ranking.all.queries:
        tables.append(_ranking_table(report.ranking))
    return Group(*tables)


def _metrics_table(report: Report, title: str) -> Table:
    """Return a table: one line for all rows, one for seen and one for unseen languages, and one for each language."""
    threshold = f"threshold {report.threshold:.3f}, or that of the language"
    caption = f"{threshold}; 95 % intervals, {report.resamples} bootstrap samples of linked rows"
    table = Table(title=title, caption=caption)
    for column in ("rows of", "rows", "positive", "F1", "always-yes F1", "F1 gain", "AUC"):
        table.add_column(column, justify="left" if column == "rows of" else "right", no_wrap=True)
    parts = {"all": report.all, "seen languages": report.seen, "unseen languages": report.unseen} | report.languages
    for name, part in parts.items():
        if part is not None:
            values = (f"{each:.3f}" for each in (part.f1, part.always_yes_f1, part.f1_gain, part.auc))
            table.add_row(name, str(part.rows), f"{part.positives / part.rows:.0%}", *values)
    return table


def _ranking_table(ranking: RankingReport) -> Table:
    """Return a table: one line for the queries of all rows, and one for those of each language."""
    every = ranking.all
    caption = f"queries with candidates of both labels; {every.one_class} with one label and {every.single} with one "
    table = Table(title="ranking within queries", caption=f"{caption}candidate do not count; gains by {ranking.gains}")
    for column in ("queries of", "queries", "nDCG@10", "MRR@10", "precision", "pairwise accuracy"):
        table.add_column(column, justify="left" if column == "queries of" else "right", no_wrap=True)
    for name, part in ({"all": every} | ranking.languages).items():
        metrics = (part.ndcg_at_10, part.mrr_at_10, part.precision, part.pairwise_accuracy)
        table.add_row(name, str(part.queries), *(f"{each:.3f}" for each in metrics))
    return table
