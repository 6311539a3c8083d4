"""Models of a benchmark on real data as bundles: trained and exported once, scored on one thread, compared in pairs."""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rows import ROOT, Parts, Rows
from run import trained

from export.exporting import DEFAULT_LIMITS, export_bundle
from relevance.evaluation.intervals import cluster_weights, interval
from relevance.evaluation.metrics import f1, weighted_auc, weighted_f1
from relevance.scorer import Scorer, Scores
from training.data.groups import linked_groups

BUILD = ROOT / "build" / "real_data"
RESAMPLES, ROUNDS = 1000, 3

Floats = NDArray[np.float64]


def bundle_of(name: str, setting: str, keys: Sequence[str], given: Parts, keep: bool) -> tuple[Path, dict[str, Any]]:
    """Return the fp32 bundle of a model with a recipe's keys, and how it was trained; `keep` one that is there."""
    run = trained(ROOT / "configs" / f"{setting[:2]}.toml", keys, given, BUILD / name, keep)
    out = BUILD / f"{name}-bundle"
    made = json.loads((BUILD / name / "card.json").read_text(encoding="utf-8"))["created"]
    known = out / "manifest.json"
    if not (known.is_file() and json.loads(known.read_text(encoding="utf-8"))["created"] == made):
        export_bundle(BUILD / name, out, "fp32", DEFAULT_LIMITS["fp32"], overwrite=True)
    return out, run


def scored(folder: Path, rows: Rows) -> tuple[Scores, float]:
    """Return the scores of rows and their CPU time in seconds, on one thread."""
    scorer, pairs = Scorer.open(folder, device="cpu", threads=1), [row.pair for row in rows]
    scorer.score(pairs[:64])
    began = time.process_time()
    found = scorer.score(pairs)
    return found, time.process_time() - began


def cpu_seconds(folders: Mapping[str, Path], rows: Rows) -> dict[str, float]:
    """Return the CPU time in seconds that each bundle takes for rows on one thread: the median of ROUNDS, in turn."""
    pairs = [row.pair for row in rows]
    scorers = {name: Scorer.open(folder, device="cpu", threads=1) for name, folder in folders.items()}
    spent: dict[str, list[float]] = {name: [] for name in scorers}
    for _ in range(ROUNDS):
        for name, scorer in scorers.items():
            began = time.process_time()
            scorer.score(pairs)
            spent[name].append(time.process_time() - began)
    return {name: float(np.median(each)) for name, each in spent.items()}


def paired(rows: Rows, found: Scores, others: Mapping[str, Scores]) -> dict[str, Any]:
    """Return F1, accuracy and AUC of a model, and its differences from others: paired, intervals over queries."""
    labels = np.array([row.label for row in rows], dtype=np.float64)
    clusters = np.unique(np.asarray(linked_groups(rows), dtype=object).astype(str), return_inverse=True)[1]
    weights = list(cluster_weights(clusters, RESAMPLES, 0))

    def measures(scores: Scores) -> tuple[Floats, Floats]:
        """F1 and AUC [2], and those of all resamples [2, R]."""
        predicted, ranks = scores.labels.astype(np.float64), np.unique(scores.scores, return_inverse=True)[1]

        def of(weight: Floats) -> Floats:
            return np.stack([weighted_f1(labels, predicted, weight), weighted_auc(labels, ranks, weight)])

        return of(np.ones((1, len(labels))))[:, 0], np.concatenate([of(weight) for weight in weights], axis=1)

    values, draws = measures(found)
    report: dict[str, Any] = {"f1": f1(labels, found.labels), "accuracy": float((found.labels == labels).mean())}
    report["auc"] = interval(values[1], draws[1]).model_dump()
    for name, other in others.items():
        their_values, their_draws = measures(other)
        for place, metric in enumerate(("f1", "auc")):
            gap = interval(values[place] - their_values[place], draws[place] - their_draws[place])
            report[f"{metric}_less_{name}"] = gap.model_dump()
        report[f"labels_as_{name}"] = float((found.labels == other.labels).mean())
    return report
