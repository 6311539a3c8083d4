"""Cost and quality of a cascade on real data: `python benchmarks/real_data/cascade.py qc --small 3 --large 12`.

Trains two models of so many layers (or keeps those of build/), exports both, makes a cascade by `relevance cascade`'s
own function on the rows that choose, and runs it. Other bands are computed from both models' logits: those of further
losses of F1, and those that pass on a share of the pairs. Reports on the dev rows: F1, accuracy and AUC beside those of
both models, paired differences with intervals over queries, and CPU time on one thread, the models in turn, for some of
the rows. `--cut 2.5` calls QI rows positive from this mean grade on: by the data's own cut, 2.33, most rows are, and F1
says little. Needs ../shared/data. Writes `cascade_SETTING.json` in this folder and prints its table.
"""

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from bundles import BUILD, bundle_of, cpu_seconds, paired, scored
from rows import DATA, Parts, Rows, machine, parts, relabelled

from export.bands import StageScores, choose_band
from export.cascading import make_cascade
from relevance.evaluation.metrics import always_yes_f1
from relevance.model.bundle import Bundle
from relevance.model.card import Calibration
from relevance.model.cascade import Band, CascadeRule, Scale
from relevance.scorer import Scores
from relevance.tasks import Task
from training.data.provenance import now, source_commit
from training.data.splits import draw

HERE = Path(__file__).parent
LOSSES = (0.0, 0.001, 0.003, 0.005, 0.01, 0.02)
SHARES = (0.1, 0.2, 0.25, 0.5, 0.75)
LOSS = 0.003  # of the cascade that is made and run; the others are computed from both models' logits
TIMED = 500  # of the rows to report: CPU time is measured on these


def write_rows(file: Path, rows: Rows, task: Task) -> Path:
    """Write rows as `relevance data clean` does, as far as the band needs them."""
    lines = [
        {
            "origin_query": row.pair.query,
            task.candidate_field: row.pair.candidate,
            "language": row.pair.language,
            "label": row.label,
        }
        for row in rows
    ]
    file.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    return file


def table(result: dict[str, Any]) -> str:
    """Return a Markdown table of a result."""
    lines = [
        "| model | passed on | cost | F1 | F1 less the large model's | AUC | AUC less the large model's | same label |"
    ]
    lines.append("|" + "---|" * 8)
    for name, each in result["models"].items():
        passed = f"{each['passed_on']:.0%}" if "passed_on" in each else ""
        gaps = [each[key] for key in ("f1_less_large", "auc_less_large")]
        shown = [f"{gap['value']:+.4f} [{gap['low']:+.4f}, {gap['high']:+.4f}]" for gap in gaps]
        cells = [
            name,
            passed,
            f"{each['cost']:.2f}",
            f"{each['f1']:.4f}",
            shown[0],
            f"{each['auc']['value']:.4f}",
            shown[1],
        ]
        lines.append(f"| {' | '.join(cells)} | {each['labels_as_large']:.1%} |")
    return "\n".join(lines)


def measured(bundles: dict[str, Path], given: Parts, task: Task) -> dict[str, Any]:
    """Return the figures of both models, of a cascade that is made and run, and of the bands of further losses."""
    dev, rows = write_rows(BUILD / "cascade-dev.jsonl", given.choosing, task), given.report
    folder = BUILD / "cascade-bundle"
    summary = make_cascade(bundles["small"], bundles["large"], folder, dev, LOSS, overwrite=True).cascade
    cascade = f"cascade, loss {LOSS:g}"
    folders = bundles | {cascade: folder}
    runs = {name: scored(each, rows)[0] for name, each in folders.items()}
    timed = draw(rows, TIMED, 0)
    spent = cpu_seconds(folders, timed)
    found = {}
    for name, scores in runs.items():
        speed = {"cost": spent[name] / spent["large"], "pairs_per_second": len(timed) / spent[name]}
        found[name] = paired(rows, scores, {"large": runs["large"]}) | speed
    passed = float(np.isclose(runs[cascade].scores, runs["large"].scores, atol=1e-6).mean())
    found[cascade] |= {"passed_on": passed, "max_f1_loss": LOSS, "cascade": summary.model_dump(mode="json")}
    choosing = {name: scored(each, given.choosing)[0] for name, each in bundles.items()}
    for name, band in bands(bundles, given, choosing, summary.scale).items():
        both, passed_on = with_band(bundles, given, runs, summary.scale, band)
        cost = {"cost": found["small"]["cost"] + passed_on, "passed_on": passed_on}
        found[name] = paired(rows, both, {"large": runs["large"]}) | cost | {"band": band.model_dump()}
    return found


def bands(bundles: dict[str, Path], given: Parts, choosing: dict[str, Scores], scale: Scale) -> dict[str, Band]:
    """Return the bands of LOSSES, and those that pass on SHARES of the rows that choose, nearest to the threshold."""
    small, large = (Bundle.open(bundles[name]).manifest for name in ("small", "large"))
    labels = np.array([row.label for row in given.choosing], dtype=np.bool_)
    languages = [row.pair.language for row in given.choosing]
    distances = CascadeRule(small, large, scale, Band(below=0, above=0)).distances(choosing["small"].logits, languages)
    scores = StageScores(labels, distances, choosing["large"].labels.astype(np.bool_))
    found = {f"computed, loss {loss:g}": choose_band(scores, loss) for loss in LOSSES}
    for share in SHARES:
        width = float(np.quantile(np.abs(distances), share))
        found[f"computed, nearest {share:.0%}"] = Band(below=width, above=width)
    return found


def with_band(
    bundles: dict[str, Path], given: Parts, reported: dict[str, Scores], scale: Scale, band: Band
) -> tuple[Scores, float]:
    """Return what a cascade with a band gives the rows to report: scores, and the share passed on."""
    small, large = (Bundle.open(bundles[name]).manifest for name in ("small", "large"))
    rule, languages = CascadeRule(small, large, scale, band), [row.pair.language for row in given.report]
    logits, passed = rule.first(reported["small"].logits, languages)
    logits = np.where(passed, rule.second(reported["large"].logits, languages), logits)
    card = large.model_copy(update={"calibration": Calibration()})
    scores = card.scores(logits)
    found = Scores(scores, card.labels(scores, languages).astype(np.int64), logits, passed)
    return found, float(passed.mean())


def main(arguments: Sequence[str]) -> None:
    """Train, export, make the cascades, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("setting", choices=["qc", "qi", "qi-english"])
    parser.add_argument("--cut", type=float, help="mean grade from which a QI row is positive; default: as labelled")
    parser.add_argument("--small", type=int, default=3, help="layers of the small model")
    parser.add_argument("--large", type=int, default=12, help="layers of the large model")
    parser.add_argument("--max-rows", type=int, help="train on so many rows, drawn by the seed")
    parser.add_argument("--max-report", type=int, help="report on so many of the dev rows, drawn by the seed")
    parser.add_argument("--set", action="append", default=[], dest="overrides", help="KEY=VALUE over both recipes")
    parser.add_argument("--small-set", action="append", default=[], help="KEY=VALUE over the small model's recipe")
    parser.add_argument("--keep", action="store_true", help="keep models in build/ with the same recipe and rows")
    parser.add_argument("--out", type=Path, help="JSON to write; default: cascade_SETTING.json beside this file")
    options = parser.parse_args(arguments)
    logging.basicConfig(format="%(message)s")
    logging.getLogger("training").setLevel(logging.INFO)
    if not DATA.is_dir():
        sys.exit(f"error: no {DATA}; expected the real data beside the project")
    rows, task = parts(options.setting, options.max_rows, 0), Task(options.setting[:2])
    rows = rows._replace(report=draw(rows.report, options.max_report, 0))
    if options.cut:
        rows = relabelled(rows, options.cut)
    made = {}
    for name, own in (("small", options.small_set), ("large", [])):
        layers = getattr(options, name)
        keys = [*options.overrides, f"encoder.layers={layers}", *own]
        made[name] = bundle_of(f"cascade-{options.setting}-{layers}", options.setting, keys, rows, options.keep)
    labels = [row.label for row in rows.report]
    result = {
        "command": f"python benchmarks/real_data/cascade.py {' '.join(arguments)}",
        "created": now(),
        "source_commit": source_commit(),
        "machine": machine(),
        "rows": {name: len(each) for name, each in rows._asdict().items()},
        "chosen_on": "the rows that choose, a tenth of the training rows: thresholds, checkpoints and bands",
        "cost": f"CPU time on one thread for {TIMED} of the rows to report, by that of the large model; models in turn",
        "positive_rate": float(np.mean(labels)),
        "always_yes_f1": always_yes_f1(labels),
        "training": {name: run for name, (_, run) in made.items()},
        "models": measured({name: folder for name, (folder, _) in made.items()}, rows, task),
    }
    target = options.out or HERE / f"cascade_{options.setting}.json"
    target.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(table(result))


if __name__ == "__main__":
    main(sys.argv[1:])
