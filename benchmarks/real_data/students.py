"""What small students of a large teacher are worth: `python benchmarks/real_data/students.py qi --max-rows 16000`.

Trains a teacher of all twelve layers, and students of fewer layers twice: on the labels alone, and with margin-MSE to
the teacher's logits of the training rows too (`training.teacher`). Exports all, and scores the dev rows with each on
one thread. Reports AUC with intervals over queries, paired differences from the teacher and between both ways to train,
the size of a bundle, and pairs by CPU second. Needs ../shared/data. Writes `students_SETTING.json` in this folder and
prints its table.
"""

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from bundles import BUILD, bundle_of, paired, scored
from rows import DATA, Parts, Rows, is_translated, machine, parts

from relevance.scorer import Scores
from training.data.provenance import now, source_commit
from training.fitting.evaluation.report import score_logits

HERE = Path(__file__).parent


def teacher_file(folder: Path, rows: Rows) -> Path:
    """Write the logits that a checkpoint gives its training rows, as `relevance score` does; return the file."""
    file = folder.with_suffix(".logits.jsonl")
    logits = np.asarray(score_logits(folder, rows)[1], dtype=float)
    lines = (json.dumps({"id": row.id, "logit": logit}) for row, logit in zip(rows, logits.tolist(), strict=True))
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def measured(
    name: str, keys: Sequence[str], options: argparse.Namespace, given: Parts
) -> tuple[Scores, dict[str, Any]]:
    """Train and export a model and score the rows to report; return the scores and what they took."""
    bundle, run = bundle_of(f"students-{options.setting}-{name}", options.setting, keys, given, options.keep)
    found, seconds = scored(bundle, given.report)
    size = sum(file.stat().st_size for file in bundle.rglob("*") if file.is_file())
    return found, {"training": run, "bundle_bytes": size, "pairs_per_cpu_second": len(given.report) / seconds}


def study(options: argparse.Namespace, given: Parts) -> dict[str, Any]:
    """Return the figures of the teacher and of all students."""
    english = [row for row in given.train if not is_translated(row)]
    given = given._replace(train=english)
    large, about = measured("teacher", [*options.overrides, *options.teacher_set], options, given)
    models = {"teacher": about | paired(given.report, large, {})}
    file = teacher_file(BUILD / f"students-{options.setting}-teacher", english)
    for layers in options.layers:
        keys = [*options.overrides, f"encoder.layers={layers}"]
        alone, about = measured(f"{layers}", keys, options, given)
        models[f"{layers} layers, labels"] = about | paired(given.report, alone, {"teacher": large})
        found, about = measured(f"{layers}-taught", [*keys, f"training.teacher={file}"], options, given)
        models[f"{layers} layers, labels and teacher"] = about | paired(
            given.report, found, {"teacher": large, "labels": alone}
        )
    return models


def table(models: dict[str, Any]) -> str:
    """Return a Markdown table of the figures."""
    head = ("model", "MB", "pairs by CPU second", "AUC", "AUC less the teacher's", "AUC less that by labels alone")
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for name, each in models.items():
        gaps = (each["auc"], each.get("auc_less_teacher"), each.get("auc_less_labels"))
        cells = [f"{gap['value']:+.3f} [{gap['low']:+.3f}, {gap['high']:+.3f}]" if gap else "" for gap in gaps]
        size, speed = each["bundle_bytes"] / 1e6, each["pairs_per_cpu_second"]
        lines.append(f"| {name} | {size:.0f} | {speed:.0f} | {cells[0].lstrip('+')} | {cells[1]} | {cells[2]} |")
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> None:
    """Train, export, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("setting", choices=["qc", "qi"])
    parser.add_argument("--layers", type=int, nargs="+", default=[6, 4, 3], help="layers of the students")
    parser.add_argument("--max-rows", type=int, help="train on so many rows, drawn by the seed")
    parser.add_argument("--set", action="append", default=[], dest="overrides", help="KEY=VALUE over all recipes")
    parser.add_argument("--teacher-set", action="append", default=["encoder.layers=12"], help="over the teacher's")
    parser.add_argument("--keep", action="store_true", help="keep models in build/ with the same recipe and rows")
    options = parser.parse_args(arguments)
    logging.basicConfig(format="%(message)s")
    logging.getLogger("training").setLevel(logging.INFO)
    if not DATA.is_dir():
        sys.exit(f"error: no {DATA}; expected the real data beside the project")
    given = parts(options.setting, options.max_rows, 0)
    models = study(options, given)
    result = {
        "command": f"python benchmarks/real_data/students.py {' '.join(arguments)}",
        "created": now(),
        "source_commit": source_commit(),
        "machine": machine(),
        "rows": {name: len(rows) for name, rows in given._asdict().items()}
        | {"trained on": "rows as written, no translations"},
        "chosen_on": "the rows that choose, a tenth of the training rows: checkpoints; dev is reported",
        "speed": "CPU time on one thread for the rows to report",
        "models": models,
    }
    target = HERE / f"students_{options.setting}.json"
    target.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(table(models))


if __name__ == "__main__":
    main(sys.argv[1:])
