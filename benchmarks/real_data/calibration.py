"""Calibration and thresholds by language and by category: `python benchmarks/real_data/calibration.py`.

A probe is scored; what is compared is only how its logits become scores and labels. Every variant is tuned on rows of
train that the probe did not see, and compared twice with one calibration and one threshold for all:

- `chosen on`: other such rows of train, over several draws of the rows that tune. The choice was made on these.
- `reported on`: dev, on which nothing was chosen, with intervals that resample groups of linked rows.

QC: ten languages, all with training rows. QI: English training rows; the queries of the translation memory, with their
TRANSLATIONS by a large language model, tune and report. Needs ../shared/data. Writes `calibration.json` in this folder.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from relevance.evaluation.metrics import auc, best_threshold, f1
from relevance.model.card import sigmoid
from relevance.storage.outputs import write_text
from relevance.tasks import LabeledPair, Pair, Task, query_key
from relevance.text.formatting import PairFormat
from training.ablation.compare import JudgedRows, Scores, difference, draw
from training.data.dataset import read_pairs
from training.data.groups import linked_groups
from training.data.provenance import now, source_commit
from training.data.splits import draw as drawn
from training.embedding.vectors import CachedEncoder
from training.fitting.evaluation.calibration import language_offsets, platt
from training.models.encoder_embedder import EncoderEmbedder
from training.models.probe import Probe
from training.selfvalidation.folds import assign_folds, dev_part

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
DATA = ROOT.parent / "shared" / "data"
ENCODER = "packaged:multilingual-e5-small"
DRAWS = 10
BLOCK = 2000  # rows whose features are in memory at once
THRESHOLD_ROWS = (0, 400)  # k of the weight n / (n + k) of a language's own threshold

Rows = Sequence[LabeledPair]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Table:
    """Scored rows: labels, logits, languages, top categories and groups of linked rows, all [N]."""

    labels: Floats
    logits: Floats
    languages: NDArray[np.str_]
    tops: NDArray[np.str_]
    groups: NDArray[np.str_]

    @classmethod
    def of(cls, rows: Rows, logits: Floats, task: Task) -> "Table":
        """Return the table of rows; the top category of QI is empty."""
        form = PairFormat().fitted(task, [row.pair.candidate for row in rows])
        tops = [form.levels(row.pair.candidate)[:1] if task is Task.QC else [] for row in rows]
        return cls(
            np.array([row.label for row in rows], dtype=np.float64),
            logits,
            np.array([row.pair.language for row in rows]),
            np.array([top[0].casefold() if top else "" for top in tops]),
            np.array(linked_groups(rows)),
        )

    def part(self, mask: NDArray[np.bool_]) -> "Table":
        """Return some of the rows."""
        return Table(*(getattr(self, name)[mask] for name in self.__dataclass_fields__))


def variants(tune: Table, rows: Table) -> dict[str, tuple[Floats, Floats]]:
    """Return by variant the scores and thresholds [N] of rows, tuned on `tune`. The first one is the same for all."""
    calibration = platt(tune.labels, tune.logits)
    own, moved = calibration.logits(tune.logits), calibration.logits(rows.logits)
    overall = best_threshold(tune.labels, sigmoid(own))[0]
    found = {"one for all": (sigmoid(moved), np.full(len(moved), overall))}
    for name in ("languages", "tops"):
        keys, others = getattr(tune, name), getattr(rows, name)
        if len(set(keys)) < 2:
            continue
        offsets = language_offsets(tune.labels, own, tune.groups.tolist(), keys.tolist())
        for kind, field in (("shrunk", "offset"), ("not shrunk", "own_offset")):
            by_key = {key: getattr(each, field) for key, each in offsets.items()}
            shift = [np.array([by_key.get(key, 0.0) for key in each]) for each in (keys, others)]
            cut = best_threshold(tune.labels, sigmoid(own + shift[0]))[0]
            found[f"offsets of {name}, {kind}"] = (sigmoid(moved + shift[1]), np.full(len(moved), cut))
        for k in THRESHOLD_ROWS:
            cuts = {key: _threshold(tune.labels[keys == key], own[keys == key], overall, k) for key in set(keys)}
            thresholds = np.array([cuts.get(key, overall) for key in others])
            found[f"thresholds of {name}, k {k}"] = (sigmoid(moved), thresholds)
    return found


def _threshold(labels: Floats, logits: Floats, overall: float, k: int) -> float:
    """Return the threshold of best F1, moved to the overall one (in logits) by the weight k / (n + k)."""
    own, whole = (np.log(cut / (1 - cut)) for cut in (best_threshold(labels, sigmoid(logits))[0], overall))
    return float(sigmoid(np.array(whole + (own - whole) * len(labels) / (len(labels) + k))))


def chosen_on(table: Table, share: float) -> dict[str, dict[str, float]]:
    """Return the mean differences of F1, AUC and log loss to `one for all`, over draws of the rows that tune."""
    groups, sums = np.unique(table.groups), []
    for seed in range(DRAWS):
        some = np.random.default_rng(seed).choice(groups, int(share * len(groups)), replace=False)
        tunes = np.isin(table.groups, some)
        other = table.part(~tunes)
        found = variants(table.part(tunes), other)
        sums.append({name: _values(other, *each) for name, each in found.items()})
    return {
        name: {
            metric: float(np.mean([each[name][metric] - each["one for all"][metric] for each in sums]))
            for metric in ("f1", "auc", "log_loss")
        }
        for name in sums[0]
    }


def reported_on(tune: Table, rows: Table) -> dict[str, dict]:
    """Return the metrics of each variant on rows, and the paired differences to `one for all`."""
    languages = rows.languages.tolist()
    judged = JudgedRows(rows.labels.astype(int).tolist(), rows.groups.tolist(), languages, languages)
    found, everything = variants(tune, rows), np.ones(len(rows.labels), dtype=bool)
    draws = {name: draw(judged, Scores(s[None], c[None]), everything) for name, (s, c) in found.items()}
    return {
        name: _values(rows, *each)
        | {
            f"{metric}_difference": difference(draws[name], draws["one for all"], metric).model_dump()
            for metric in ("f1", "auc")
        }
        for name, each in found.items()
    }


def _values(rows: Table, scores: Floats, cuts: Floats) -> dict[str, float | None]:
    right = np.where(rows.labels == 1, scores, 1 - scores)
    return {
        "f1": f1(rows.labels, scores >= cuts),
        "auc": auc(rows.labels, scores),
        "log_loss": float(-np.log(np.clip(right, 1e-12, 1)).mean()),
    }


def logits(probe: Probe, rows: Rows) -> Floats:
    """Return the logits [N] of rows, block by block."""
    return np.concatenate([probe.logits(rows[at : at + BLOCK]) for at in range(0, len(rows), BLOCK)])


def qc(encoder: CachedEncoder) -> dict:
    """Return the figures of QC."""
    train, dev = (read_pairs(DATA / f"analyticup_qc/{part}_QC.txt", Task.QC).rows for part in ("train", "dev"))
    folds, scored = assign_folds(train, 5, 0), np.zeros(len(train))
    for fold in range(5):
        held = np.flatnonzero(folds == fold)
        probe = Probe(encoder, Task.QC).fit([row for row, k in zip(train, folds, strict=True) if k != fold])
        scored[held] = logits(probe, [train[at] for at in held])
    tunes = dev_part(train, 0.2, 0)
    tune = [row for row, left in zip(train, tunes, strict=True) if left]
    probe = Probe(encoder, Task.QC).fit([row for row, left in zip(train, tunes, strict=True) if not left])
    tables = [Table.of(rows, logits(probe, rows), Task.QC) for rows in (tune, dev)]
    return {
        "rows": {"train, scored out of fold": len(train), "tune": len(tune), "dev": len(dev)},
        "chosen on": chosen_on(Table.of(train, scored, Task.QC), 0.2),
        "reported on": reported_on(*tables),
    }


def qi(encoder: CachedEncoder) -> dict:
    """Return the figures of QI: English and translated queries together."""
    train, dev = (read_pairs(DATA / f"home_depot_qi/{part}_QI.txt", Task.QI).rows for part in ("train", "dev"))
    tuning, reporting = memory("qi_queries"), memory("qi_dev_queries")
    tune = translated([row for row in train if query_key(row.pair.query) in tuning], tuning)
    rows = translated([row for row in dev if query_key(row.pair.query) in reporting], reporting)
    known = {row.pair.language for row in tune}
    rows = [row for row in rows if row.pair.language in known]
    fit = drawn([row for row in train if query_key(row.pair.query) not in tuning], 5000, 0)
    probe = Probe(encoder, Task.QI).fit(fit)
    tables = [Table.of(some, logits(probe, some), Task.QI) for some in (tune, rows)]
    return {
        "rows": {"train": len(fit), "tune": len(tune), "dev": len(rows)},
        "chosen on": chosen_on(tables[0], 0.5),
        "reported on": reported_on(*tables),
    }


def memory(name: str) -> dict[str, dict[str, str]]:
    """Return the translations of each query of a translation memory, by query key and language."""
    lines = (DATA / f"translation_memory/{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return {query_key(entry["text"]): entry["translations"] for entry in map(json.loads, lines)}


def translated(rows: Rows, units: dict[str, dict[str, str]]) -> list[LabeledPair]:
    """Return rows and their translations."""
    found = list(rows)
    for row in rows:
        for code, query in units[query_key(row.pair.query)].items():
            pair = Pair(query, row.pair.candidate, code)
            found.append(replace(row, id=f"{row.id}~{code}", pair=pair, extra={"source_id": row.id}))
    return found


def main() -> None:
    """Measure both tasks and write the figures."""
    encoder = CachedEncoder(EncoderEmbedder(ENCODER), ROOT / "build" / "embeddings")
    about = {
        "command": "python benchmarks/real_data/calibration.py",
        "created": now(),
        "source_commit": source_commit(),
        "data": "analyticup_qc; home_depot_qi, queries of other languages are translated",
        "model": f"probe over {ENCODER}",
    }
    result = about | {"qc": qc(encoder), "qi": qi(encoder)}
    write_text(HERE / "calibration.json", json.dumps(result, indent=1) + "\n")
    for task in ("qc", "qi"):
        print(
            f"\n{task}\n\n| variant | chosen on: F1, AUC, log loss | reported on: F1 | AUC | log loss |\n|{'---|' * 5}"
        )
        for name, part in result[task]["reported on"].items():
            before = ", ".join(f"{value:+.4f}" for value in result[task]["chosen on"][name].values())
            ends = [_shown(part[f"{metric}_difference"]) for metric in ("f1", "auc")]
            print(f"| {name} | {before} | {part['f1']:.4f} {ends[0]} | {part['auc']:.4f} {ends[1]} ", end="")
            print(f"| {part['log_loss']:.4f} |")


def _shown(found: dict[str, float]) -> str:
    return f"({found['value']:+.4f} [{found['low']:+.4f}, {found['high']:+.4f}])"


if __name__ == "__main__":
    main()
