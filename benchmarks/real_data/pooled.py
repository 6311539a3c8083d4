"""One judgement for a row and its translations, or one for each: `python benchmarks/real_data/pooled.py`.

QI rows of the translation memory's queries, in English and with the query TRANSLATED by a large language model into six
languages. 15 % of the sources get the wrong label, and their translations with them. Probes score the rows out of fold.
How well does the doubt about a label tell wrong labels from right ones, with each row's own score and with the mean of
a row and its translations? Nothing was chosen on these rows. Needs ../shared/data. Writes `pooled.json` in this folder.
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from calibration import BLOCK, DATA, ENCODER, logits, memory, translated

from relevance.model.card import sigmoid
from relevance.storage.outputs import write_text
from relevance.tasks import Task, query_key
from training.ablation.compare import JudgedRows, Scores, difference, draw
from training.data.dataset import read_pairs
from training.data.groups import copy_groups, linked_groups
from training.data.provenance import now, source_commit
from training.embedding.vectors import CachedEncoder
from training.models.encoder_embedder import EncoderEmbedder
from training.models.probe import Probe
from training.selfvalidation.flags import doubt
from training.selfvalidation.folds import assign_folds
from training.selfvalidation.options import Judge
from training.selfvalidation.outoffold import OutOfFold

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
FLIPPED, FOLDS, FLAGGED = 0.15, 3, 0.05


def main() -> None:
    """Judge the rows both ways and write the figures."""
    units = memory("qi_queries")
    sources = [
        r for r in read_pairs(DATA / "home_depot_qi/train_QI.txt", Task.QI).rows if query_key(r.pair.query) in units
    ]
    flips = dict(zip([r.id for r in sources], np.random.default_rng(0).random(len(sources)) < FLIPPED, strict=True))
    rows = translated(sources, units)
    wrong = np.array([flips[row.extra.get("source_id", row.id)] for row in rows])
    rows = [replace(row, label=1 - row.label) if bad else row for row, bad in zip(rows, wrong, strict=True)]
    encoder = CachedEncoder(EncoderEmbedder(ENCODER), ROOT / "build" / "embeddings")
    folds, scores = assign_folds(rows, FOLDS, 0), np.zeros(len(rows))
    for fold in range(FOLDS):
        probe = Probe(encoder, Task.QI).fit([row for row, k in zip(rows, folds, strict=True) if k != fold])
        held = np.flatnonzero(folds == fold)
        scores[held] = sigmoid(logits(probe, [rows[at] for at in held]))
    each = OutOfFold(scores[None], np.full((1, len(rows)), 0.5), scores[None], (Judge.PROBE,))
    labels, languages = [row.label for row in rows], [row.pair.language for row in rows]
    judged = JudgedRows(wrong.astype(int).tolist(), linked_groups(rows), languages, languages)
    found, draws = {}, {}
    for name, judges in (("each row", each), ("a row and its translations", each.pooled(copy_groups(rows)))):
        doubts = doubt(labels, judges.scores[0])
        most = np.argsort(-doubts, kind="stable")[: int(FLAGGED * len(rows))]
        draws[name] = draw(judged, Scores(doubts[None], np.full((1, len(rows)), 0.5)), np.ones(len(rows), dtype=bool))
        found[name] = {"auc": float(draws[name].values["auc"][0]), "precision": float(wrong[most].mean())}
    result = {
        "command": "python benchmarks/real_data/pooled.py",
        "created": now(),
        "source_commit": source_commit(),
        "data": "home_depot_qi, queries of other languages are translated",
        "model": f"probe over {ENCODER}, {FOLDS} folds, features in blocks of {BLOCK} rows",
        "rows": len(rows),
        "wrong": float(wrong.mean()),
        "flagged for precision": FLAGGED,
        "judged by": found,
        "auc_difference": difference(draws["a row and its translations"], draws["each row"], "auc").model_dump(),
    }
    write_text(HERE / "pooled.json", json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
