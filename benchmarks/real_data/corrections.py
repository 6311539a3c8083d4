"""What corrected labels are worth to a probe: `python benchmarks/real_data/corrections.py`.

QC in ten languages. Four fifths of train (whole queries) are the training rows; each arm changes their labels by
self-validation or another rule, and a probe is trained on the result. Two sets judge: `chosen on`, the fifth of train
that is left, on which a rule may be chosen, and `reported on`, dev, on which nothing was chosen. Both have the labels
as they came, with their noise. A second pass flips 15 % of the training labels at random, so that there is something
to correct. Needs ../shared/data. Writes `corrections.json` in this folder and prints its table. Works in
build/corrections; a run that was killed continues there.
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from relevance.model.card import sigmoid
from relevance.storage.outputs import write_text
from relevance.tasks import LabeledPair, Task
from training.ablation.compare import Draws, JudgedRows, Scores, difference, draw
from training.data.dataset import read_pairs
from training.data.groups import linked_groups
from training.data.provenance import now, source_commit
from training.embedding.vectors import CachedEncoder
from training.fitting.recipe import Recipe
from training.models.encoder_embedder import EncoderEmbedder
from training.models.probe import Probe
from training.selfvalidation.folds import dev_part
from training.selfvalidation.options import SelfValidationOptions
from training.selfvalidation.stage import SelfValidation, validate_rows

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
DATA = ROOT.parent / "shared" / "data" / "analyticup_qc"
WORK = ROOT / "build" / "corrections"
ENCODER = "packaged:multilingual-e5-small"
FLIPPED = 0.15
ARMS = {
    "drop": {"action": "drop"},
    "weight": {"action": "weight"},
    "soften, mix 0.15": {"action": "soften", "mix": 0.15},
    "soften, mix 0.3": {"action": "soften", "mix": 0.3},
    "soften, mix 0.5": {"action": "soften", "mix": 0.5},
}

Rows = list[LabeledPair]


def arms(rows: Rows, encoder: CachedEncoder) -> dict[str, Rows]:
    """Return the training rows of each arm; `label smoothing` is soften with the positive rate as its only judge."""
    recipe = Recipe(name="corrections", task=Task.QC, base_model=ENCODER)
    rate = sum(row.label for row in rows) / len(rows)
    smoothed = [replace(row, extra=row.extra | {"label_share": 0.7 * row.label + 0.3 * rate}) for row in rows]
    found = {"as they are": rows, "label smoothing 0.3": smoothed}
    for name, given in ARMS.items():
        options = SelfValidationOptions.model_validate({"least_auc": 0.0} | given)
        found[name] = validate_rows(rows, SelfValidation(recipe, options, WORK, (), lambda _: encoder)).rows
    return found


def judged(rows: Rows, sets: dict[str, Rows], encoder: CachedEncoder) -> dict[str, dict[str, Draws]]:
    """Return the metrics of a probe trained on the rows of each arm, on each of the sets."""
    found: dict[str, dict[str, Draws]] = {name: {} for name in sets}
    for arm, some in arms(rows, encoder).items():
        probe = Probe(encoder, Task.QC).fit(some)
        for name, other in sets.items():
            languages = [row.pair.language for row in other]
            those = JudgedRows([row.label for row in other], linked_groups(other), languages, languages)
            scores = sigmoid(probe.logits(other))[None]
            everything = np.ones(len(other), dtype=bool)
            found[name][arm] = draw(those, Scores(scores, np.full_like(scores, 0.5)), everything)
    return found


def table(found: dict[str, dict[str, Draws]]) -> dict[str, dict]:
    """Return by set and arm: AUC, and its difference to the rows as they are."""
    return {
        name: {
            arm: {
                "auc": float(draws.values["auc"][0]),
                "difference": difference(draws, by_arm["as they are"], "auc").model_dump(),
            }
            for arm, draws in by_arm.items()
        }
        for name, by_arm in found.items()
    }


def main() -> None:
    """Measure both passes and write the figures."""
    train, dev = (read_pairs(DATA / f"{part}_QC.txt", Task.QC).rows for part in ("train", "dev"))
    encoder = CachedEncoder(EncoderEmbedder(ENCODER), ROOT / "build" / "embeddings")
    chooses = dev_part(train, 0.2, 0)
    rows = [row for row, left in zip(train, chooses, strict=True) if not left]
    sets = {"chosen on": [row for row, left in zip(train, chooses, strict=True) if left], "reported on": dev}
    wrong = np.random.default_rng(0).random(len(rows)) < FLIPPED
    flipped = [replace(row, label=1 - row.label) if bad else row for row, bad in zip(rows, wrong, strict=True)]
    result = {
        "command": "python benchmarks/real_data/corrections.py",
        "created": now(),
        "source_commit": source_commit(),
        "data": "analyticup_qc, ten languages",
        "rows": {"train": len(rows)} | {name: len(some) for name, some in sets.items()},
        "model": f"probe over {ENCODER}; judges: the same, five folds",
        "labels as they came": table(judged(rows, sets, encoder)),
        f"{FLIPPED:.0%} of the training labels flipped": table(judged(flipped, sets, encoder)),
    }
    write_text(HERE / "corrections.json", json.dumps(result, indent=1) + "\n")
    for title, found in list(result.items())[-2:]:
        print(
            f"\n{title}\n\n| arm | {' | '.join(f'AUC, {name} | difference' for name in sets)} |\n|---|{'---|---|' * 2}"
        )
        for arm in found["reported on"]:
            cells = [found[name][arm] for name in sets]
            texts = (f"{c['auc']:.4f} | {c['difference']['value']:+.4f} {_ends(c)}" for c in cells)
            print(f"| {arm} | {' | '.join(texts)} |")


def _ends(cell: dict) -> str:
    return f"[{cell['difference']['low']:+.4f}, {cell['difference']['high']:+.4f}]"


if __name__ == "__main__":
    main()
