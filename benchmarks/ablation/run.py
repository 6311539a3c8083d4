"""What each data strategy is worth on real data: `python benchmarks/ablation/run.py NAME [--model probe] [--seeds 3]`.

Needs ../shared/data beside the project (see its README for provenance; never part of the project) and the `train`
extra. Writes NAME.MODEL[.ROWS].json, .md and .svg in this folder. Works in build/ablation (or $ABLATION_WORK);
a run that was killed continues there.

qc: the zero-shot setting of arXiv 2510.21671. Train on en es fr ko pt ja; translation by the memory into de it pl ar.
qi: train on English; translation by the memory into es fr de ja ar pl. Test: English dev rows of the memory's 160 dev
    queries and the same rows with the query TRANSLATED by a large language model into those languages and it, vi
    (which have no training row in any arm).
clicks: qi in English; training keeps all positives and 5 % of the negatives. Which negatives compensate the loss?
dirty: qi in English; 25 % of the training labels flipped at random. Does filtering compensate the loss?
dirty-alike: the same share; the probability of a flip grows with the similarity of query and title, from 0 for the
    least similar to one half for the most similar.
dirty-most-alike: all labels flipped in the quarter of the rows whose query and title are most similar. No correct label
    is left there, so no filter can find the errors.

No arm is tuned on the test rows. Dev, which chooses checkpoints and thresholds, is split from training before any
damage and gets the same damage. Defaults that all arms share were chosen earlier, some on these same rows: the adaptive
rule in the setting of `dirty`, the probe's penalty and features on real dev rows (docs/quality.md, What was chosen
where).
"""

import argparse
import json
import logging
import os
import random
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from relevance.storage.outputs import write_text
from relevance.tasks import LabeledPair, Task, query_key
from training.ablation.arms import Arm, standard_arms
from training.ablation.report import by_language, markdown, plot
from training.ablation.study import run_study
from training.commands.ablate import provenance
from training.data.dataset import read_pairs
from training.data.splits import draw, split_pairs, write_pairs
from training.embedding.vectors import CANDIDATE_PREFIX, QUERY_PREFIX
from training.pipeline.recipe import PipelineRecipe
from training.pipeline.stage_run import Caches
from training.pipeline.store import Store

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SHARED = ROOT.parent / "shared" / "data"
WORK = Path(os.environ.get("ABLATION_WORK") or ROOT / "build" / "ablation")
MEMORY = SHARED / "translation_memory"
FLIPPED = 0.25
KEPT_NEGATIVES = 0.05

Rows = list[LabeledPair]
Plan = tuple[list[Arm], list[tuple[str, str, str]]]


def home_depot(split: str) -> Rows:
    """Return the English QI rows of a split."""
    return read_pairs(SHARED / "home_depot_qi" / f"{split}_QI.txt", Task.QI).rows


def saved(name: str, rows: Rows) -> str:
    """Write QI rows where the pipeline reads them, and return the path. Each size of a study has its own file."""
    path = WORK / "data" / f"{name}_{len(rows)}.jsonl"
    write_pairs(path, rows, Task.QI)
    return str(path)


def recipe(task: str, options: argparse.Namespace, files: dict[str, str], *settings: str) -> PipelineRecipe:
    """Return the shipped recipe of a task, with files, model and settings of the study and the user."""
    shared = [f"model={options.model}", "split.test=0"]
    shared += [f"data.{part}=[{json.dumps(file)}]" for part, file in files.items()]
    return PipelineRecipe.load(ROOT / "configs" / f"{task}.toml", [*shared, *settings, *options.overrides])


def memory_backend(name: str) -> str:
    """Return the setting that translates by one of the memories."""
    return f"translation.backends={json.dumps([f'memory:{MEMORY / name}'])}"


def qc(options: argparse.Namespace) -> Plan:
    """The standard arms in the zero-shot setting."""
    folder = SHARED / "analyticup_qc"
    settings = [
        'data.languages=["en","es","fr","ko","pt","ja"]',
        memory_backend("qc_queries.jsonl"),
    ]
    files = {"train": str(folder / "train_QC.txt"), "test": str(folder / "dev_QC.txt")}
    chosen = recipe("qc", options, files, *settings)
    return standard_arms(chosen, options.only), []


def qi(options: argparse.Namespace) -> Plan:
    """The standard arms, English training, judged on English and translated dev queries."""
    memory = {query_key(entry["text"]): entry["translations"] for entry in _lines(MEMORY / "qi_dev_queries.jsonl")}
    english = [row for row in home_depot("dev") if query_key(row.pair.query) in memory]
    test = list(english)
    for row in english:
        for language, query in memory[query_key(row.pair.query)].items():
            pair = replace(row.pair, query=query, language=language)
            made = {"source": "translation", "source_id": row.id}
            test.append(LabeledPair(pair, row.label, f"{row.id}~{language}", made))
    known = {query_key(entry["text"]) for entry in _lines(MEMORY / "qi_queries.jsonl")}
    train = with_rows_of(home_depot("train"), known, options.rows)
    targets = 'translation.targets=["es","fr","de","ja","ar","pl"]'
    backends = memory_backend("qi_queries.jsonl")
    files = {"train": saved("qi_train", train), "test": saved("qi_test", test)}
    chosen = recipe("qi", options, files, targets, backends)
    return standard_arms(chosen, options.only), []


def clicks(options: argparse.Namespace) -> Plan:
    """Logs of clicks hold few negatives: arms with all negatives, with 5 % of them, and with sampled ones added."""
    parts = english(options)
    rng = random.Random(0)
    few = {name: [r for r in rows if r.label == 1 or rng.random() < KEPT_NEGATIVES] for name, rows in parts.items()}
    whole = recipe("qi", options, english_files("clicks_whole", parts))
    damaged = recipe("qi", options, english_files("clicks_few", few))
    arms = [Arm("all negatives", whole), Arm("5 % of the negatives", damaged, ("all negatives",))]
    for arm in standard_arms(damaged):
        if arm.name.endswith(" negatives"):
            name = f"5 % and sampled: {arm.name.removesuffix(' negatives')}"
            arms.append(Arm(name, arm.recipe, ("5 % of the negatives",)))
    return arms, [(arm.name, "5 % of the negatives", "all negatives") for arm in arms[2:]]


def dirty(options: argparse.Namespace) -> Plan:
    """A quarter of the labels flipped at random."""

    def places(rows: Rows) -> list[int]:
        return random.Random(0).sample(range(len(rows)), round(FLIPPED * len(rows)))

    return _flipped(places, "dirty", options)


def dirty_alike(options: argparse.Namespace) -> Plan:
    """A quarter of the labels flipped; the probability grows with the similarity of query and title, to one half."""

    def places(rows: Rows) -> list[int]:
        chance = 2 * FLIPPED * np.argsort(_by_likeness(rows)) / len(rows)
        return np.flatnonzero(np.random.default_rng(0).random(len(rows)) < chance).tolist()

    return _flipped(places, "dirty_alike", options)


def dirty_most_alike(options: argparse.Namespace) -> Plan:
    """All labels flipped in the quarter of the rows whose query and title are most similar."""

    def places(rows: Rows) -> list[int]:
        return _by_likeness(rows)[::-1][: round(FLIPPED * len(rows))].tolist()

    return _flipped(places, "dirty_most_alike", options)


def _by_likeness(rows: Rows) -> np.ndarray:
    """Return the positions of the rows, sorted by the cosine of query and title, the smallest first."""
    encoder = Caches(WORK / "cache").encoder("packaged:multilingual-e5-small")
    queries = encoder.embed([row.pair.query for row in rows], QUERY_PREFIX)
    titles = encoder.embed([row.pair.candidate for row in rows], CANDIDATE_PREFIX)
    return np.argsort((queries * titles).sum(axis=1), kind="stable")


def english(options: argparse.Namespace) -> dict[str, Rows]:
    """Return English training and dev rows: split before they are damaged, so that all arms have the same queries."""
    rows = draw(home_depot("train"), options.rows, 0)
    parts = split_pairs(rows, fractions={"train": 0.9, "dev": 0.1}, seed=0)
    return {name: list(part) for name, part in parts.items()}


def english_files(name: str, parts: dict[str, Rows]) -> dict[str, str]:
    """Write training and dev rows; the test is the English dev set."""
    files = {part: saved(f"{name}_{part}", rows) for part, rows in parts.items()}
    return files | {"test": saved("english_test", home_depot("dev"))}


def _flipped(places_of: Callable[[Rows], list[int]], name: str, options: argparse.Namespace) -> Plan:
    parts = english(options)
    wrong = {}
    for part, rows in parts.items():
        places = set(places_of(rows))
        wrong[part] = [
            replace(row, label=1 - row.label if n in places else row.label, extra={"true_label": row.label})
            for n, row in enumerate(rows)
        ]
    clean = Arm("clean labels", recipe("qi", options, english_files(f"{name}_clean", parts)))
    standard = {arm.name: arm for arm in standard_arms(recipe("qi", options, english_files(name, wrong)))}
    arms = [clean, Arm("dirty labels", standard["baseline"].recipe, ("clean labels",))]
    arms.append(Arm("dirty, random dropping", standard["random dropping"].recipe, ("dirty labels",)))
    filtered = standard["filtering"].recipe
    arms.append(Arm("dirty, filtered", filtered, ("dirty labels", "dirty, random dropping")))
    return arms, [(arm.name, "dirty labels", "clean labels") for arm in arms[2:]]


def with_rows_of(rows: Rows, queries: set[str], most: int | None) -> Rows:
    """Return at most `most` rows: all of the given queries, filled up with others drawn by seed 0."""
    if most is None:
        return rows
    wanted = [row for row in rows if query_key(row.pair.query) in queries]
    others = [row for row in rows if query_key(row.pair.query) not in queries]
    kept = {row.id for row in [*wanted, *draw(others, max(most - len(wanted), 0), 0)]}
    return [row for row in rows if row.id in kept]


def _lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


STUDIES: dict[str, Callable[[argparse.Namespace], Plan]] = {
    "qc": qc,
    "qi": qi,
    "clicks": clicks,
    "dirty": dirty,
    "dirty-alike": dirty_alike,
    "dirty-most-alike": dirty_most_alike,
}


def main() -> None:
    """Run one study and write its files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("--model", choices=("crossencoder", "probe"), default="crossencoder")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", type=int, help="qi, clicks, dirty: training rows, a subset drawn by seed 0")
    parser.add_argument("--only", action="append", default=[], help="qc, qi: an arm beside the baseline; repeat")
    parser.add_argument("--set", action="append", default=[], dest="overrides", help="KEY=VALUE over the recipe")
    parser.add_argument("--out", type=Path, help="folder for the results; default: beside this file")
    options = parser.parse_args()
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    logging.getLogger("training").setLevel(logging.INFO)
    if not SHARED.is_dir():
        sys.exit(f"error: no {SHARED}; expected the real data beside the project")
    arms, recoveries = STUDIES[options.study](options)
    store = Store(WORK)
    with store.locked():
        study = run_study(arms, store, options.seeds, recoveries)
    content = provenance() | {"study": options.study, "rows_asked_for": options.rows}
    content |= {"arms_recipes": {arm.name: arm.recipe.model_dump(mode="json") for arm in arms}}
    size = f".{options.rows}" if options.rows else ""
    name = (options.out or HERE) / f"{options.study}.{options.model}{size}"
    title = f"{options.study}: difference of AUC, {options.seeds} seeds, {options.model}"
    text = json.dumps(content | study.model_dump(mode="json"), indent=1) + "\n"
    text = text.replace(f"{ROOT}/", "").replace(f"{ROOT.parent}/", "../")  # results name no machine's folders
    write_text(name.with_name(f"{name.name}.json"), text)
    write_text(name.with_name(f"{name.name}.md"), markdown(study) + "\n" + by_language(study))
    write_text(name.with_name(f"{name.name}.svg"), plot(study, title))
    print(markdown(study))


if __name__ == "__main__":
    main()
