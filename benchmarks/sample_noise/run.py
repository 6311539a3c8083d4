"""How well self-validation finds known wrong labels: `python benchmarks/sample_noise/run.py`.

Runs on the embedded sample (synthetic; 8 % of the training labels are flipped, and the row says which). Writes
results.json in this folder: precision and recall of every flagging rule, for judges of several kinds, and of a random
flagger that flags as many rows. The adaptive rule was tuned on this sample, and the margin counts as tuned on it too
(docs/log.md), so their figures flatter. Works in build/sample_noise; a run that was killed continues there.
"""

import argparse
import json
import logging
import sys
from pathlib import Path

import numpy as np

from relevance.storage.outputs import write_text
from relevance.tasks import ANALYTICUP_TASKS, LabeledPair, Task
from training.commands.ablate import provenance
from training.data.dataset import read_pairs
from training.pipeline.recipe import PipelineRecipe
from training.sample.generate import write_sample
from training.selfvalidation.judging import judge
from training.selfvalidation.options import Flag, Judge, Prune, SelfValidationOptions
from training.selfvalidation.outoffold import OutOfFold, out_of_fold
from training.selfvalidation.report import known_truth, quality

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
WORK = ROOT / "build" / "sample_noise"
JUDGES = {
    "probe": [{"judge": Judge.PROBE}],
    "crossencoder": [{"judge": Judge.CROSSENCODER}],
}


def judged(rows: list[LabeledPair], task: Task, kinds: list[str], folds: dict[str, int]) -> dict[str, OutOfFold]:
    """Return the out-of-fold scores by kind of judge, and their mean where there are several kinds."""
    recipe = PipelineRecipe.load(ROOT / "training" / "demo" / f"{task}.toml").fine_tuning()
    found = {}
    for kind in kinds:
        options = SelfValidationOptions(folds=folds[kind], models=JUDGES[kind])
        found[kind] = out_of_fold(rows, recipe, options, WORK / "validation")
    if len(found) > 1:
        parts = list(found.values())
        found["mean of both"] = OutOfFold(
            np.concatenate([part.scores for part in parts]),
            np.concatenate([part.thresholds for part in parts]),
            np.concatenate([part.calibrated for part in parts]),
            tuple(kind for part in parts for kind in part.kinds),
        )
    return found


def rules(rows: list[LabeledPair], found: OutOfFold) -> dict[str, dict]:
    """Return precision and recall of every rule, and of a random flagger of the same size."""
    results = {}
    labels = [row.label for row in rows]
    for prune in Prune:
        options = SelfValidationOptions(methods=tuple(Flag), prune=prune)
        flags = judge(labels, found, options).flags
        for flag, mask in flags.items():
            name = f"{flag.value} ({prune.value})" if flag is Flag.CONFIDENT else flag.value
            results[name] = _measured(rows, mask)
    for margin in (0.1, 0.3, 0.4):
        options = SelfValidationOptions(methods=(Flag.CONTRADICTION,), margin=margin)
        mask = judge(labels, found, options).flags[Flag.CONTRADICTION]
        results[f"contradiction, margin {margin:g}"] = _measured(rows, mask)
    return results


def _measured(rows: list[LabeledPair], mask: np.ndarray) -> dict:
    by_chance = np.zeros(len(rows), dtype=bool)
    by_chance[np.random.default_rng(0).choice(len(rows), int(mask.sum()), replace=False)] = True
    truth = known_truth(rows)
    good, chance = quality(truth, mask), quality(truth, by_chance)
    if good is None or chance is None:
        raise SystemExit("error: the sample's rows do not say which labels are wrong")
    return good.model_dump() | {"random_precision": chance.precision, "random_recall": chance.recall}


def main() -> None:
    """Measure both tasks and write results.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--judge", action="append", choices=JUDGES, help="kind of judge; repeat [both]")
    parser.add_argument("--folds", type=int, default=5, help="of the probe")
    parser.add_argument("--crossencoder-folds", type=int, default=3, help="fewer, since each takes minutes")
    parser.add_argument("--out", type=Path, default=HERE / "results.json")
    options = parser.parse_args()
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    logging.getLogger("training").setLevel(logging.INFO)
    write_sample(WORK / "sample", seed=0)
    tasks = {}
    for task in ANALYTICUP_TASKS:
        rows = read_pairs(WORK / "sample" / f"train_{task.upper()}.txt", task).rows
        folds = {"probe": options.folds, "crossencoder": options.crossencoder_folds}
        found = judged(rows, task, options.judge or list(JUDGES), folds)
        tasks[task.value] = {name: rules(rows, scores) for name, scores in found.items()}
        for name, results in tasks[task.value].items():
            for rule, good in results.items():
                print(f"{task} {name:14} {rule:26} precision {good['precision']:.2f} recall {good['recall']:.2f}")
    content = provenance() | {"data": "embedded sample, SYNTHETIC", "folds": folds, "tasks": tasks}
    write_text(options.out, json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
