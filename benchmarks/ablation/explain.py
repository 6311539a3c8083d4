"""Why sampled negatives help or not: how hard they are for a model that has not seen any.

`python benchmarks/ablation/explain.py` trains a probe on the real QC rows of the zero-shot setting, and on the QI rows
of a log of clicks (all positives, 5 % of the negatives). It measures by AUC how well the probe separates held-out
positives from the data's own negatives, and from sampled ones. Needs ../shared/data. Writes explain.json in this
folder.
"""

import json
import logging
import random
import sys
from pathlib import Path

import numpy as np

from relevance.evaluation.metrics import auc
from relevance.model.card import sigmoid
from relevance.storage.outputs import write_text
from relevance.tasks import LabeledPair, Task
from training.commands.ablate import provenance
from training.data.dataset import read_pairs
from training.data.splits import split_pairs
from training.models.probe import Probe
from training.negatives.options import NegativeOptions
from training.negatives.sampling import sample_negatives
from training.pipeline.stage_run import Caches

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SHARED = ROOT.parent / "shared" / "data"
SEEN = {"en", "es", "fr", "ko", "pt", "ja"}


def negatives_by_kind(rows: list[LabeledPair], task: Task, keep: float, caches: Caches) -> dict[str, object]:
    """Return the AUC of held-out positives against each kind of negatives; the probe trains on a share of negatives."""
    encoder = caches.encoder("packaged:multilingual-e5-small")
    parts = split_pairs(rows, fractions={"train": 0.7, "test": 0.3}, seed=0)
    rng = random.Random(0)
    train = [row for row in parts["train"] if row.label or rng.random() < keep]
    probe = Probe(encoder, task).fit(train)
    held = parts["test"]
    groups = {"positives": [row for row in held if row.label], "own": [row for row in held if not row.label]}
    for strategy in ("random", "easy", "hard"):
        options = NegativeOptions(strategy=strategy, per_positive=1)
        made, _ = sample_negatives(groups["positives"], task, options, encoder)
        groups[strategy] = [row for row in made if row.extra.get("source") == "negative"]
    scores = {name: sigmoid(probe.logits(members)) for name, members in groups.items()}
    found: dict[str, object] = {}
    for name in ("own", "random", "easy", "hard"):
        labels = [1] * len(scores["positives"]) + [0] * len(scores[name])
        area = auc(labels, np.concatenate([scores["positives"], scores[name]]))
        found[name] = {"rows": len(scores[name]), "auc": area, "mean_score": float(scores[name].mean())}
    return {"training_rows": len(train), "positives": len(scores["positives"]), "negatives": found}


def main() -> None:
    """Measure and write explain.json."""
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    if not SHARED.is_dir():
        sys.exit(f"error: no {SHARED}; expected the real data beside the project")
    caches = Caches(ROOT / "build" / "ablation" / "cache")
    qc = read_pairs(SHARED / "analyticup_qc" / "train_QC.txt", Task.QC).rows
    qi = read_pairs(SHARED / "home_depot_qi" / "train_QI.txt", Task.QI).rows
    content = provenance() | {
        "qc": negatives_by_kind([row for row in qc if row.pair.language in SEEN], Task.QC, 1.0, caches),
        "qi, all negatives": negatives_by_kind(qi, Task.QI, 1.0, caches),
        "qi, 5 % of the negatives": negatives_by_kind(qi, Task.QI, 0.05, caches),
    }
    write_text(HERE / "explain.json", json.dumps(content, indent=1) + "\n")
    print(json.dumps({name: content[name] for name in content if name.startswith("q")}, indent=1))


if __name__ == "__main__":
    main()
