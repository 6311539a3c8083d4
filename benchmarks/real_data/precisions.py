"""What precisions cost on real data: `python benchmarks/real_data/precisions.py qi --max-rows 20000`.

Trains a model (or keeps that of build/) on rows as they are written, and has `relevance precisions` export it in each
precision that this machine runs, and compare speed and size on one thread: CPU time, the precisions in turn, on 1,000
of the rows to report. Then each precision scores all rows to report: how far scores move from those of fp32, F1 and
AUC, and their paired differences from fp32 with intervals over queries. And pairs are scored alone and among others:
how far a score moves with its batch. Needs ../shared/data. Writes `precisions_SETTING.json` in this folder and prints
its table.
"""

import argparse
import itertools
import json
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from bundles import BUILD, Floats, bundle_of, paired
from numpy.typing import NDArray
from rows import DATA, Parts, Rows, is_translated, machine, parts

from relevance.model.bundle import Bundle
from relevance.model.openvino_model import OpenVinoModel
from relevance.model.session import DEFAULT_BATCH_TOKENS, BundleSession
from relevance.scorer import Scores
from relevance.text.tokenization import TokenizedPair, batches
from training.data.provenance import now, source_commit
from training.data.splits import draw
from training.scoring.precisions import MAX_PAIRS, compare_precisions

HERE = Path(__file__).parent
PROBES, MATES, BATCHES = 30, 15, 4  # pairs, others in a batch, batches of each pair
Run = Callable[[Sequence[TokenizedPair]], Floats]


@dataclass(frozen=True, slots=True)
class Way:
    """A bundle in a runtime on one thread. `run` gives the logits [B] of one batch."""

    bundle: Bundle
    run: Run

    @classmethod
    def open(cls, folder: Path, runtime: str) -> Self:
        """Open a bundle in a runtime as `relevance precisions` names it."""
        bundle = Bundle.open(folder)
        if runtime == "onnxruntime":
            session = BundleSession.open(bundle, 1, "cpu")
            return cls(bundle, lambda pairs: session.logits(pairs).astype(np.float64))
        model, tokenizer, names = OpenVinoModel(bundle, 1), bundle.tokenizer(), bundle.manifest.input_names

        def run(pairs: Sequence[TokenizedPair]) -> Floats:
            arrays = tokenizer.collate(pairs)
            return np.asarray(model.run({name: arrays[name] for name in names}), dtype=np.float64).reshape(-1)

        return cls(bundle, run)

    def scored(self, rows: Rows) -> Scores:
        """Return the scores of rows, in batches of pairs of like length."""
        pairs = self.bundle.inputs().encode([row.pair for row in rows])
        logits = np.zeros(len(pairs), dtype=np.float32)
        for places in batches([len(pair) for pair in pairs], DEFAULT_BATCH_TOKENS["cpu"]):
            logits[places] = self.run([pairs[place] for place in places])
        card, languages = self.bundle.manifest, [row.pair.language for row in rows]
        scores, cut = card.scores(logits, languages), np.array([pair.truncated for pair in pairs])
        return Scores(scores, card.labels(scores, languages).astype(np.int64), logits, cut)

    def by_batch(self, rows: Rows, seed: int) -> dict[str, Any]:
        """Return how far the scores of PROBES of the rows move from those alone, in batches with others."""
        card, rng = self.bundle.manifest, np.random.default_rng(seed)
        chosen = [rows[place] for place in rng.choice(len(rows), PROBES, replace=False)]
        probes, mates = (self.bundle.inputs().encode([row.pair for row in each]) for each in (chosen, rows))
        logits = np.zeros((1 + BATCHES, PROBES))
        for place, pair in enumerate(probes):
            logits[0, place] = self.run([pair])[0]
            for number in range(1, 1 + BATCHES):
                batch = [pair, *(mates[each] for each in rng.choice(len(mates), MATES, replace=False))]
                logits[number, place] = self.run(batch)[0]
        languages = [row.pair.language for row in chosen]
        scores = np.stack([card.scores(each, languages) for each in logits])
        labels = np.stack([card.labels(each, languages) for each in scores])
        return {
            "pairs": PROBES,
            "largest_score_shift": float(np.abs(scores - scores[0]).max()),
            "mean_score_shift": float(np.abs(scores[1:] - scores[0]).mean()),
            "largest_logit_shift": float(np.abs(logits - logits[0]).max()),
            "pairs_with_both_labels": int((labels != labels[0]).any(axis=0).sum()),
        }


def study(folder: Path, given: Parts) -> dict[str, Any]:
    """Return the figures of each precision of a checkpoint, on all rows to report and by their kind."""
    rows, out = given.report, BUILD / f"{folder.name}-bundles"
    found = compare_precisions(folder, out, draw(rows, MAX_PAIRS, 0), overwrite=True)
    translations = np.array([is_translated(row) for row in rows])
    kinds = {"English": ~translations, "translated queries": translations}
    if not translations.any():
        kinds = {"all": ~translations}
    exact, ways = None, {}
    for each in found.measured:
        way = Way.open(out / each.precision, each.runtime)
        scores = way.scored(rows)
        exact = exact or scores
        parity = {
            kind: against(list(itertools.compress(rows, mask)), part(scores, mask), part(exact, mask))
            for kind, mask in kinds.items()
        }
        about = {"rows": parity, "by_batch": way.by_batch(draw(rows, MAX_PAIRS, 1), 0)}
        ways[f"{each.precision} in {each.runtime}"] = each.model_dump(mode="json") | about
    chosen = {"recommended": found.recommended, "reason": found.reason, "left_out": found.left_out}
    int8 = Bundle.open(out / "int8").manifest.int8
    return chosen | {"int8": int8 and int8.model_dump(mode="json"), "ways": ways}


def part(scores: Scores, mask: NDArray[np.bool_]) -> Scores:
    """Return the scores of the rows of a mask [N]."""
    return Scores(scores.scores[mask], scores.labels[mask], scores.logits[mask], scores.truncated[mask])


def against(rows: Rows, scores: Scores, exact: Scores) -> dict[str, Any]:
    """Return the figures of scores on rows, and how far they are from those of fp32."""
    shift, gap = np.abs(scores.scores - exact.scores), np.abs(scores.logits - exact.logits)
    moved = {f"score_shift_{name}": float(np.quantile(shift, q)) for name, q in (("p50", 0.5), ("p99", 0.99))}
    return {
        "count": len(rows),
        **moved,
        "largest_score_shift": float(shift.max()),
        "largest_logit_difference": float(gap.max()),
        "mean_logit_difference": float(gap.mean()),
        **paired(rows, scores, {"fp32": exact}),
    }


def table(result: dict[str, Any]) -> str:
    """Return a Markdown table of a result."""
    head = ("precision, runtime", "rows", "MB", "pairs by CPU second", "times fp32", "score shift, p99 / largest")
    head = (*head, "AUC", "AUC less that of fp32", "shift by batch, largest")
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for name, each in result["ways"].items():
        about = [f"{each['megabytes']:.0f}", f"{each['pairs_per_second']:.0f}", f"{each['times_fp32']:.2f}"]
        for kind, of in each["rows"].items():
            gap = of["auc_less_fp32"]
            moved = f"{of['score_shift_p99']:.4f} / {of['largest_score_shift']:.4f}"
            area = f"{of['auc']['value']:.4f}", f"{gap['value']:+.4f} [{gap['low']:+.4f}, {gap['high']:+.4f}]"
            cells = [name, kind, *about, moved, *area, f"{each['by_batch']['largest_score_shift']:.4f}"]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> None:
    """Train, export, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("setting", choices=["qc", "qi"])
    parser.add_argument("--max-rows", type=int, help="train on so many rows, drawn by the seed")
    parser.add_argument("--max-report", type=int, help="report on so many of the dev rows, drawn by the seed")
    parser.add_argument("--set", action="append", default=[], dest="overrides", help="KEY=VALUE over the recipe")
    parser.add_argument("--keep", action="store_true", help="keep models in build/ with the same recipe and rows")
    parser.add_argument("--out", type=Path, help="JSON to write; default: precisions_SETTING.json beside this file")
    options = parser.parse_args(arguments)
    logging.basicConfig(format="%(message)s")
    logging.getLogger("training").setLevel(logging.INFO)
    if not DATA.is_dir():
        sys.exit(f"error: no {DATA}; expected the real data beside the project")
    given = parts(options.setting, options.max_rows, 0)
    given = given._replace(train=[row for row in given.train if not is_translated(row)])
    given = given._replace(report=draw(given.report, options.max_report, 0))
    target = options.out or HERE / f"precisions_{options.setting}.json"
    name = target.stem.replace("_", "-")
    _, run = bundle_of(name, options.setting, options.overrides, given, options.keep)
    result: dict[str, Any] = {
        "command": f"python benchmarks/real_data/precisions.py {' '.join(arguments)}",
        "created": now(),
        "source_commit": source_commit(),
        "machine": machine(),
        "rows": {part: len(rows) for part, rows in given._asdict().items()},
        "calibrated_on": "pairs of the rows that choose; dev is reported",
        "training": run,
    } | study(BUILD / name, given)
    target.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(table(result))


if __name__ == "__main__":
    main(sys.argv[1:])
