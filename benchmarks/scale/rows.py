"""Rows of the SYNTHETIC sample by the million: `python benchmarks/scale/rows.py FOLDER --task qc --rows 10000000`.

Each seed of the sample at its largest scale gives one Parquet file of 80,000 rows (train, dev and test together); the
last one is cut. A rerun makes only the files that are missing. Seeds share words, so queries repeat from file to file,
as they do in logs. The sample has 84 category paths; real QC data has about one path for every four rows. So each path
gets numbered subcategories here, `--paths` in all.
"""

import argparse
import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from relevance.tasks import LabeledPair, Task
from relevance.text.formatting import split_levels
from training.data.splits import write_pairs
from training.sample.generate import generate
from training.sample.plan import LARGEST_SCALE, SampleSettings
from training.sample.shop import Shop, load_shop

SEED_ROWS = 80_000


def make(folder: Path, task: Task, count: int, paths: int) -> list[Path]:
    """Write the files of `count` rows that are missing; return all of them, in order."""
    shop = load_shop()
    files = []
    for seed in range(-(-count // SEED_ROWS)):
        size = min(SEED_ROWS, count - seed * SEED_ROWS)
        files.append(folder / f"{task}-{seed:05}-{size}.parquet")
        if not files[-1].is_file():
            write_pairs(files[-1], seed_rows(task, seed, paths, shop)[:size], task)
    return files


def seed_rows(task: Task, seed: int, paths: int, shop: Shop) -> list[LabeledPair]:
    """Return the rows of one seed, shuffled: SEED_ROWS of them."""
    rng = random.Random(seed)
    splits = generate(task, SampleSettings(seed, LARGEST_SCALE), shop)
    rows = [replace(row, id=f"{seed}-{split}-{row.id}") for split, made in splits.items() for row in made]
    rng.shuffle(rows)
    return with_shelves(rows, paths, rng) if task is Task.QC else rows


def with_shelves(rows: Sequence[LabeledPair], paths: int, rng: random.Random) -> list[LabeledPair]:
    """Return rows with about so many different category paths."""
    shelves = max(paths // len({row.pair.candidate for row in rows}), 1)
    made = []
    for row in rows:
        path = row.pair.candidate
        shelf = rng.randrange(shelves)
        candidate = f"{path},{split_levels(path)[-1]} {shelf}" if shelf else path
        made.append(replace(row, pair=replace(row.pair, candidate=candidate)))
    return made


def main() -> None:
    """Make the rows and print the names of the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--task", type=Task, choices=list(Task), default=Task.QC)
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--paths", type=int, default=4_000, help="different category paths (QC)")
    options = parser.parse_args()
    print(json.dumps([str(file) for file in make(options.folder, options.task, options.rows, options.paths)]))


if __name__ == "__main__":
    main()
