"""Fine-tune on real data and compare with simple scorers: `python benchmarks/real_data/run.py qc` (or `qi`).

Needs ../shared/data beside the project (see its README for provenance; never part of the project) and the `train`
extra. Writes `TASK.json` in this folder, the source of a table in docs/quality.md, and prints that table.

qc: the zero-shot setting of arXiv 2510.21671. Train on en es fr ko pt ja, evaluate on dev in ten languages.
qi: train on a subset of the English rows; evaluate on English dev rows of the 160 queries of the translation memory and
    on the same rows with the query TRANSLATED by a large language model into eight languages, none seen in training.

A tenth of the training rows (whole queries) chooses the checkpoint and every scorer's threshold; dev serves only for
the report.
"""

import argparse
import json
import logging
import os
import platform
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from relevance.card import ModelCard
from relevance.formatting import PairFormat
from relevance.metrics import Report, Scored, best_threshold, evaluate
from relevance.tasks import LabeledPair, Pair, Task, query_key
from training.data.dataset import read_pairs
from training.data.provenance import now, source_commit
from training.data.splits import draw
from training.fitting.checkpoint import Job, train
from training.fitting.evaluation import score_rows
from training.models.base_models import resolve_base_model
from training.models.cross_encoder import CrossEncoder, load_tokenizer
from training.models.options import HeadOptions
from training.pipeline.recipe import PipelineRecipe
from training.selfvalidation.folds import dev_part

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
DATA = ROOT.parent / "shared" / "data"
SEEN = {Task.QC: ("en", "es", "fr", "ko", "pt", "ja"), Task.QI: ("en",)}

Rows = list[LabeledPair]


def qc_rows() -> tuple[Rows, Rows]:
    """Return the seen languages' training rows, and all dev rows."""
    folder = DATA / "analyticup_qc"
    rows = read_pairs(folder / "train_QC.txt", Task.QC).rows
    return [r for r in rows if r.pair.language in SEEN[Task.QC]], read_pairs(folder / "dev_QC.txt", Task.QC).rows


def qi_rows() -> tuple[Rows, Rows]:
    """Return all English training rows, and the dev rows of the memory's queries, English and translated."""
    folder = DATA / "home_depot_qi"
    memory = [json.loads(line) for line in (DATA / "translation_memory/qi_dev_queries.jsonl").open(encoding="utf-8")]
    translations = {query_key(entry["text"]): entry["translations"] for entry in memory}
    english = [r for r in read_pairs(folder / "dev_QI.txt", Task.QI).rows if query_key(r.pair.query) in translations]
    dev = list(english)
    for row in english:
        for language, query in translations[query_key(row.pair.query)].items():
            pair = Pair(query, row.pair.candidate, language)
            dev.append(replace(row, pair=pair, extra={"translation_of": row.pair.query}))
    return read_pairs(folder / "train_QI.txt", Task.QI).rows, dev


def category_rate(train_rows: Rows, rows: Rows) -> np.ndarray:
    """Score a row by the smoothed share of positives of its candidate in training. The query has no effect."""
    prior = sum(r.label for r in train_rows) / len(train_rows)
    counts: dict[str, list[float]] = defaultdict(lambda: [prior * 2, 2.0])
    for row in train_rows:
        counts[row.pair.candidate][0] += row.label
        counts[row.pair.candidate][1] += 1
    return np.array([counts[r.pair.candidate][0] / counts[r.pair.candidate][1] for r in rows])


@torch.inference_mode()
def cosine(rows: Rows, task: Task) -> np.ndarray:
    """Score a row by the cosine of the packaged encoder's embeddings of query and candidate, mapped into [0, 1]."""
    base = Path(resolve_base_model("packaged:multilingual-e5-small").path)
    tokenizer = load_tokenizer(base, 64)
    encoder = CrossEncoder.from_base(base, tokenizer, HeadOptions()).encoder.eval()
    form = PairFormat(query_prefix="query: ", candidate_prefix="passage: ")
    texts = [form.texts(task, row.pair) for row in rows]
    distinct = list(dict.fromkeys(text for pair in texts for text in pair))
    ids = [[0, *found[:62], 2] for found in tokenizer.encode_texts(distinct)]
    vectors: dict[str, torch.Tensor] = {}
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    for start in range(0, len(order), 64):
        part = order[start : start + 64]
        width = max(len(ids[i]) for i in part)
        batch = torch.tensor([ids[i] + [1] * (width - len(ids[i])) for i in part])
        mask = (batch != 1).long()
        hidden = encoder(input_ids=batch, attention_mask=mask).last_hidden_state * mask[:, :, None]
        mean = torch.nn.functional.normalize(hidden.sum(1), dim=1)
        vectors |= {distinct[i]: vector for i, vector in zip(part, mean, strict=True)}
    return np.array([(float(vectors[q] @ vectors[c]) + 1) / 2 for q, c in texts])


Scorer = Callable[[Rows], np.ndarray]
CHOOSING_SHARE = 0.1  # of the training rows: they choose, and are not trained on


def parts(rows: Rows, seed: int) -> tuple[list[LabeledPair], list[LabeledPair]]:
    """Return the rows to train on, and those that choose the checkpoint and the thresholds."""
    chooses = dev_part(rows, CHOOSING_SHARE, seed)
    return [row for row, is_dev in zip(rows, chooses, strict=True) if not is_dev], [
        row for row, is_dev in zip(rows, chooses, strict=True) if is_dev
    ]


def judge(scorer: Scorer, choosing: Rows, rows: Rows, task: Task) -> Report:
    """Return the report on rows of a scorer whose threshold is the best one on other rows, those that choose."""
    threshold = best_threshold([row.label for row in choosing], scorer(choosing))[0]
    scores = scorer(rows)
    labels = [row.label for row in rows]
    clusters = [query_key(str(row.extra.get("translation_of", row.pair.query))) for row in rows]
    scored = Scored(labels, scores.tolist(), clusters, [row.pair.language for row in rows])
    return evaluate(scored, threshold, SEEN[task])


def machine() -> dict[str, object]:
    """Return the machine of the measurement."""
    return {
        "cpus": os.cpu_count(),
        "processor": platform.machine(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def table(result: dict[str, object]) -> str:
    """Return a Markdown table of a result: AUC and F1 of each scorer for all, seen and unseen languages."""
    lines = ["| scorer | languages | rows | F1 | always-yes F1 | AUC |", "|---|---|---|---|---|---|"]
    for name, report in result["reports"].items():
        for part in ("all", "seen", "unseen"):
            row = report[part]
            cells = [_cell(row[key]) for key in ("f1", "always_yes_f1", "auc")]
            lines.append(f"| {name} | {part} | {row['rows']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(interval: dict[str, float]) -> str:
    return f"{interval['value']:.3f} [{interval['low']:.3f}, {interval['high']:.3f}]"


def main(arguments: Sequence[str]) -> None:
    """Run one task and write its JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", type=Task, choices=list(Task))
    parser.add_argument("--max-rows", type=int, help="train on so many rows, drawn by the seed")
    parser.add_argument("--set", action="append", default=[], dest="overrides", help="KEY=VALUE over the recipe")
    parser.add_argument("--keep", action="store_true", help="judge the checkpoint that an earlier run left in build/")
    parser.add_argument("--out", type=Path, help="JSON to write; default: TASK.json beside this file")
    options = parser.parse_args(arguments)
    logging.basicConfig(format="%(message)s")
    logging.getLogger("training").setLevel(logging.INFO)
    if not DATA.is_dir():
        sys.exit(f"error: no {DATA}; expected the real data beside the project")
    task: Task = options.task
    recipe = PipelineRecipe.load(ROOT / "configs" / f"{task}.toml", options.overrides).fine_tuning()
    train_rows, dev = qc_rows() if task is Task.QC else qi_rows()
    train_rows, choosing = parts(draw(train_rows, options.max_rows, recipe.seed), recipe.seed)
    out = ROOT / "build" / "real_data" / task
    begun = time.monotonic()
    if not options.keep:
        train(Job(recipe, train_rows, choosing, out), overwrite=True)
    seconds = time.monotonic() - begun
    card = ModelCard.load(out)
    scorers: dict[str, Scorer] = {
        f"fine-tuned cross-encoder ({recipe.encoder.layers or 'all'} layers)": lambda rows: np.asarray(
            score_rows(out, rows)[1]
        ),
        "cosine of the packaged encoder (12 layers)": lambda rows: cosine(rows, task),
        "share of positives of the candidate in train": lambda rows: category_rate(train_rows, rows),
    }
    reports = {name: judge(scorer, choosing, dev, task) for name, scorer in scorers.items()}
    result = {
        "command": f"python benchmarks/real_data/run.py {' '.join(arguments)}",
        "created": now(),
        "source_commit": source_commit(),
        "machine": machine(),
        "data": "analyticup_qc" if task is Task.QC else "home_depot_qi; unseen languages are translated dev queries",
        "train_rows": len(train_rows),
        "dev_rows": len(dev),
        "train_seconds": None if options.keep else round(seconds),
        "recipe": recipe.model_dump(mode="json"),
        "threshold_tuned_on": "a tenth of the training rows, which nothing is trained on, for every scorer alike",
        "checkpoint": {"created": card.created, "source_commit": card.source_commit, "threshold": card.threshold},
        "reports": {name: report.model_dump(mode="json") for name, report in reports.items()},
    }
    target = options.out or HERE / f"{task}.json"
    target.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(table(result))


if __name__ == "__main__":
    main(sys.argv[1:])
