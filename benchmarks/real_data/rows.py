"""The rows of the studies on real data, and how they are parted. Needs ../shared/data beside the project.

qc: all ten languages. qc-zero-shot: train on en es fr ko pt ja, the setting of arXiv 2510.21671. qi: the English rows,
and the rows of the training translation memory's queries with the query TRANSLATED by a large language model; dev
queries are translated into eight languages, of which it and vi have no training row. qi-english: the English rows
alone.
"""

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from relevance.model.cores import processor
from relevance.tasks import LabeledPair, Pair, Task, query_key
from training.data.dataset import read_pairs
from training.data.labels.weights import LABEL_SHARE
from training.data.splits import draw
from training.selfvalidation.folds import dev_part
from training.translation.backends.memory_files import Unit

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data"
SEEN = {Task.QC: ("en", "es", "fr", "ko", "pt", "ja"), Task.QI: ("en",)}
CHOOSING_SHARE = 0.1  # of the training rows: they choose, and are not trained on
MAX_CHOOSING = 3000  # English rows: more only cost time

Rows = list[LabeledPair]


class Parts(NamedTuple):
    """Rows to train on; those that choose the checkpoint and every threshold; those to report on."""

    train: Rows
    choosing: Rows
    report: Rows


def parts(setting: str, max_rows: int | None, seed: int) -> Parts:
    """Return the parts of a setting: qc, qc-zero-shot, qi or qi-english. No query is in two of them."""
    if setting == "qi":
        return _qi(max_rows, seed)
    if setting == "qi-english":
        return Parts(*([row for row in rows if not is_translated(row)] for rows in _qi(max_rows, seed)))
    folder = DATA / "analyticup_qc"
    rows = read_pairs(folder / "train_QC.txt", Task.QC).rows
    if setting == "qc-zero-shot":
        rows = [row for row in rows if row.pair.language in SEEN[Task.QC]]
    return Parts(*_choosing(draw(rows, max_rows, seed), seed), read_pairs(folder / "dev_QC.txt", Task.QC).rows)


def _qi(max_rows: int | None, seed: int) -> Parts:
    folder = DATA / "home_depot_qi"
    train, choosing = _choosing(draw(read_pairs(folder / "train_QI.txt", Task.QI).rows, max_rows, seed), seed)
    dev = read_pairs(folder / "dev_QI.txt", Task.QI).rows
    memory, dev_memory = (translations(f"{name}_queries.jsonl") for name in ("qi", "qi_dev"))
    choosing = draw(choosing, min(MAX_CHOOSING, len(choosing)), seed)
    return Parts(train + translated(train, memory), choosing, dev + translated(dev, dev_memory))


def is_translated(row: LabeledPair) -> bool:
    """Return whether the query of a row was translated for these studies."""
    return "source_id" in row.extra


def relabelled(given: Parts, cut: float) -> Parts:
    """Return QI rows that are positive where the raters' mean grade, 1 to 3, is `cut` or more."""

    def of(rows: Rows) -> Rows:
        return [replace(row, label=int(float(row.extra["relevance"]) >= cut)) for row in rows]

    return Parts(*(of(rows) for rows in given))


def graded(rows: Sequence[LabeledPair]) -> Rows:
    """Return QI rows whose targets are the raters' mean grades, 1 to 3 mapped onto [0, 1]; their labels stay."""
    shares = [(float(row.extra["relevance"]) - 1) / 2 for row in rows]
    return [replace(row, extra=row.extra | {LABEL_SHARE: share}) for row, share in zip(rows, shares, strict=True)]


def qi_rows() -> tuple[Rows, Rows]:
    """Return all English training rows, and the dev rows of the dev memory's queries, English and translated."""
    folder, memory = DATA / "home_depot_qi", translations("qi_dev_queries.jsonl")
    dev = [r for r in read_pairs(folder / "dev_QI.txt", Task.QI).rows if query_key(r.pair.query) in memory]
    return read_pairs(folder / "train_QI.txt", Task.QI).rows, dev + translated(dev, memory)


def machine() -> dict[str, object]:
    """Return the machine of a measurement."""
    return {"cpus": os.cpu_count(), "processor": processor(), "python": platform.python_version()}


def _choosing(rows: Rows, seed: int) -> tuple[Rows, Rows]:
    chooses = dev_part(rows, CHOOSING_SHARE, seed)
    split: tuple[Rows, Rows] = ([], [])
    for row, is_choosing in zip(rows, chooses, strict=True):
        split[int(is_choosing)].append(row)
    return split


def translations(name: str) -> dict[str, dict[str, str]]:
    """Return the translations by language of each query of a translation memory."""
    lines = (DATA / "translation_memory" / name).read_text(encoding="utf-8").splitlines()
    return {query_key(entry["text"]): entry["translations"] for entry in map(json.loads, lines)}


def query_units() -> list[Unit]:
    """Return the training translation memory of qi: English queries and their translations."""
    return [Unit({"en": text} | texts, "en") for text, texts in translations("qi_queries.jsonl").items()]


def category_units() -> list[Unit]:
    """Return the last level of each category of a product taxonomy that is aligned over languages."""
    found = []
    for line in (DATA / "google_taxonomy" / "aligned.jsonl").read_text(encoding="utf-8").splitlines():
        paths = {language: path for language, path in json.loads(line).items() if language != "id"}
        found.append(Unit({language: path.split(">")[-1].strip().lower() for language, path in paths.items()}))
    return found


def translated(rows: Sequence[LabeledPair], memory: dict[str, dict[str, str]]) -> Rows:
    """Return a row in each language of each row whose query is in the memory; it names its source."""
    return [
        replace(
            row,
            pair=Pair(query, row.pair.candidate, language),
            id=f"{row.id}-{language}",
            extra=row.extra | {"source_id": row.id, "translation_of": row.pair.query},
        )
        for row in rows
        for language, query in memory.get(query_key(row.pair.query), {}).items()
    ]
