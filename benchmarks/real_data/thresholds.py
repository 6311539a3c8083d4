"""Thresholds in languages without labels, before and after: `python benchmarks/real_data/thresholds.py`.

A probe (logistic regression over the packaged encoder's embeddings) is trained on English QI rows, and the overall
threshold is tuned on English dev rows. Dev rows with TRANSLATED queries are labelled by this threshold (before) and by
thresholds matched to their scores (after, training.fitting.evaluation.thresholds). Labels of translated rows serve
only for the metrics. Needs ../shared/data. Writes `thresholds.json` in this folder and prints its table.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from rows import qi_rows

from relevance.evaluation.metrics import always_yes_f1, auc, f1
from relevance.model.card import sigmoid
from relevance.tasks import Task
from training.data.provenance import now, source_commit
from training.data.splits import draw
from training.embedding.vectors import CachedEncoder
from training.fitting.evaluation.thresholds import choose_thresholds
from training.models.encoder_embedder import EncoderEmbedder
from training.models.probe import Probe

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
ENCODER = "packaged:multilingual-e5-small"


def figures(labels: np.ndarray, scores: np.ndarray, before: float, after: float) -> dict[str, float | int | None]:
    """Return F1 with both thresholds, the F1 of always saying yes, and the AUC."""
    return {
        "rows": len(labels),
        "threshold_before": before,
        "threshold_after": after,
        "f1_before": f1(labels, scores >= before),
        "f1_after": f1(labels, scores >= after),
        "always_yes_f1": always_yes_f1(labels),
        "auc": auc(labels, scores),
        "labelled_1_before": float((scores >= before).mean()),
        "labelled_1_after": float((scores >= after).mean()),
    }


def main() -> None:
    """Train the probe, choose the thresholds, write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train-rows", type=int, default=3000)
    options = parser.parse_args()
    train_rows, dev = qi_rows()
    encoder = CachedEncoder(EncoderEmbedder(ENCODER), ROOT / "build" / "embeddings")
    logits = Probe(encoder, Task.QI).fit(draw(train_rows, options.train_rows, 0)).logits(dev)
    scores = sigmoid(logits)
    labels, languages = np.array([row.label for row in dev]), np.array([row.pair.language for row in dev])
    chosen = choose_thresholds(labels, scores, languages.tolist(), ["en"])
    found = {
        code: figures(labels[mask], scores[mask], chosen.overall, chosen.by_language.get(code, chosen.overall))
        for code in sorted(set(languages.tolist()))
        for mask in [languages == code]
    }
    translated = languages != "en"
    after = np.array([chosen.by_language.get(code, chosen.overall) for code in languages])[translated]
    together = {
        "rows": int(translated.sum()),
        "f1_before": f1(labels[translated], scores[translated] >= chosen.overall),
        "f1_after": f1(labels[translated], scores[translated] >= after),
        "always_yes_f1": always_yes_f1(labels[translated]),
        "auc": auc(labels[translated], scores[translated]),
    }
    result = {
        "command": f"python benchmarks/real_data/thresholds.py --train-rows {options.train_rows}",
        "created": now(),
        "source_commit": source_commit(),
        "data": "home_depot_qi; queries of other languages are translated dev queries",
        "model": f"probe over {ENCODER}, {options.train_rows} English training rows",
        "positive_share": chosen.positive_share,
        "languages": found,
        "translated": together,
    }
    (HERE / "thresholds.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print("| language | rows | F1 before | F1 after | always-yes F1 | AUC |\n|---|---|---|---|---|---|")
    for name, row in [*found.items(), ("all translated", together)]:
        cells = (f"{row[key]:.3f}" for key in ("f1_before", "f1_after", "always_yes_f1", "auc"))
        print(f"| {name} | {row['rows']} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
