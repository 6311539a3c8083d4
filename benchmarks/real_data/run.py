"""Fine-tune on real data and compare with cheap scorers: `python benchmarks/real_data/run.py qc` (qc-zero-shot, qi).

Needs ../shared/data beside the project (see its README for provenance; never part of the project) and the `train`
extra. Writes `SETTING.json` in this folder, the source of a table in docs/quality.md, and prints that table. The module
rows.py says what the settings are.

A tenth of the training rows (whole queries) chooses each checkpoint, every scorer's threshold and the weights of the
stack; the dev rows are only reported. The scorers: the cosine of the packaged encoder, the smoothed log-odds of the
category (QC), the probe over frozen embeddings, the recipe's model, and a stack: logistic regression over all their
scores, fitted on the rows that choose. `--arm "name: key=value key=value"` trains another model with another recipe;
`targets=graded` gives the training rows of qi the mean of their raters' grades as soft targets; `rows=originals` leaves
their translated rows out, `rows=english` those of other languages; `rows=translated` adds, to those of qc-zero-shot,
rows of the translation memory's queries, TRANSLATED into de, it, pl and ar; `rows=transferred` adds, to those of qi,
rows in seven languages that the first model labels (`relevance transfer`): the memory's queries and the categories of
an aligned taxonomy, with titles of training rows.
"""

import argparse
import json
import logging
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rows import (
    DATA,
    ROOT,
    SEEN,
    Parts,
    Rows,
    category_units,
    graded,
    is_translated,
    machine,
    parts,
    query_units,
    translated,
    translations,
)
from sklearn.linear_model import LogisticRegression

from relevance.evaluation.metrics import Report, Scored, best_threshold, evaluate
from relevance.evaluation.ranking import Lists
from relevance.model.card import sigmoid
from relevance.tasks import Task, query_key
from relevance.text.formatting import PairFormat
from training.ablation.compare import JudgedRows, Scores, difference, draw
from training.data.groups import linked_groups
from training.data.provenance import fingerprint, now, source_commit
from training.data.splits import draw as draw_rows
from training.embedding.vectors import CANDIDATE_PREFIX, QUERY_PREFIX, CachedEncoder
from training.fitting.checkpoint import Job, train
from training.fitting.evaluation.report import score_logits
from training.fitting.evaluation.scorer import model_scorer
from training.fitting.rows.prior import fit_prior
from training.models.encoder_embedder import EncoderEmbedder
from training.models.probe import Probe
from training.pipeline.recipe import PipelineRecipe
from training.transfer.options import TransferOptions
from training.transfer.stage import Sources, transfer

HERE = Path(__file__).parent
BUILD = ROOT / "build" / "real_data"
MODEL = "model of the recipe"
GRADED, ORIGINALS, ENGLISH, TRANSLATED, TRANSFERRED = OF_ROWS = (
    "targets=graded",
    "rows=originals",
    "rows=english",
    "rows=translated",
    "rows=transferred",
)
PROBE_ROWS = 15_000  # more would take long to embed

Floats = NDArray[np.float64]
Scorer = Callable[[Rows], Floats]  # logits [N], or any scores of the same order


@dataclass(frozen=True)
class Study:
    """One setting: its task, its rows, and the encoder of the cheap scorers."""

    task: Task
    rows: Parts
    encoder: CachedEncoder

    def cosine(self, rows: Rows) -> Floats:
        """Return the cosine of the packaged encoder's embeddings of query and candidate [N]."""
        form = PairFormat().fitted(self.task, [row.pair.candidate for row in self.rows.train])
        texts = [form.texts(self.task, row.pair) for row in rows]
        queries = self.encoder.embed([query for query, _ in texts], QUERY_PREFIX)
        return (queries * self.encoder.embed([text for _, text in texts], CANDIDATE_PREFIX)).sum(axis=1).astype(float)

    def category_rate(self, rows: Rows) -> Floats:
        """Return the smoothed log-odds of the category in the training rows [N]; the query has no effect."""
        form = PairFormat().fitted(self.task, [row.pair.candidate for row in self.rows.train])
        table = fit_prior(self.rows.train, form, 0).table
        return np.array([table.features(form.levels(row.pair.candidate))[0] for row in rows])

    def cheap_scorers(self) -> dict[str, Scorer]:
        """Return the scorers that need no fine-tuning."""
        some = draw_rows(self.rows.train, min(PROBE_ROWS, len(self.rows.train)), 0)
        probe = Probe(self.encoder, self.task).fit(some)
        found: dict[str, Scorer] = {"cosine of the packaged encoder (12 layers)": self.cosine}
        if self.task is Task.QC:
            found["smoothed log-odds of the category"] = self.category_rate
        return found | {f"probe ({len(some):,} rows)": probe.logits}


def trained(recipe_file: Path, overrides: Sequence[str], given: Parts, out: Path, keep: bool) -> dict[str, Any]:
    """Train a model, or keep that of `out`, if it has the same recipe and rows; return recipe, rows and time."""
    recipe = PipelineRecipe.load(recipe_file, [each for each in overrides if each not in OF_ROWS]).fine_tuning()
    rows = given.train
    if GRADED in overrides:
        rows = graded(rows)
    if ORIGINALS in overrides:
        rows = [row for row in rows if not is_translated(row)]
    if ENGLISH in overrides:
        rows = [row for row in rows if row.pair.language == "en"]
    if TRANSLATED in overrides:
        rows = rows + translated(rows, translations("qc_queries.jsonl"))
    note, mark = out / "study.json", {"recipe": recipe.model_dump(mode="json"), "rows": fingerprint(rows=[rows])}
    if keep and note.is_file() and mark.items() <= (known := json.loads(note.read_text())).items():
        return known
    begun = time.monotonic()
    train(Job(recipe, rows, given.choosing, out), overwrite=True)
    seconds = time.monotonic() - begun
    speed = {
        "seconds": round(seconds),
        "pairs_per_second": round(len(rows) * (recipe.training.epochs or 1) / seconds, 1),
    }
    run = mark | speed | {"train_rows": len(rows), "source_commit": source_commit()}
    note.write_text(json.dumps(run))
    return run


def with_transferred(study: Study, teacher: Path) -> Parts:
    """Return the parts of qi, with rows that the teacher labels among those to train on."""
    targets = ("es", "fr", "de", "ja", "pl", "it", "ar")
    scorer = model_scorer(teacher, study.task, "teacher")
    rows, held = study.rows.train, study.rows.choosing + study.rows.report
    for units, per_text, languages in ((query_units(), 24, 2), (category_units(), 4, 1)):
        options = TransferOptions(targets=targets, per_text=per_text, languages_per_pair=languages)
        more, report = transfer(rows, study.task, Sources(units, (), held), options, study.encoder, scorer)
        print(report.text(), file=sys.stderr)
        rows = list(more)
    return study.rows._replace(train=rows)


def scored(study: Study, folder: Path) -> list[Floats]:
    """Return the logits that a model gives the rows that choose, and the rows to report."""
    parts = (study.rows.choosing, study.rows.report)
    return [np.asarray(score_logits(folder, rows)[1], dtype=float) for rows in parts]


def judge(study: Study, choosing: Floats, reported: Floats) -> tuple[Report, float]:
    """Return the report on scores [N] of the rows to report, and the threshold: the best one on rows that choose."""
    rows, scores = study.rows.report, sigmoid(reported)
    threshold = best_threshold([row.label for row in study.rows.choosing], sigmoid(choosing))[0]
    lists = Lists([f"{row.pair.language} {query_key(row.pair.query)}" for row in rows])
    scored = Scored([row.label for row in rows], scores.tolist(), linked_groups(rows), _languages(rows), lists=lists)
    return evaluate(scored, threshold, SEEN[study.task]), threshold


def stacked(study: Study, scores: dict[str, list[Floats]]) -> list[Floats]:
    """Return the logits of a logistic regression over the scorers' scores, fitted on the rows that choose."""
    choosing, reported = (np.column_stack([each[place] for each in scores.values()]) for place in (0, 1))
    mean, spread = choosing.mean(axis=0), choosing.std(axis=0) + 1e-9
    labels = [row.label for row in study.rows.choosing]
    model = LogisticRegression().fit((choosing - mean) / spread, labels)
    return [model.decision_function((each - mean) / spread) for each in (choosing, reported)]


def with_stack(study: Study, model: list[Floats]) -> dict[str, list[Floats]]:
    """Return the scores of the cheap scorers, and those of the stack of them and the fine-tuned model."""
    rows = study.rows
    cheap = {name: [run(rows.choosing), run(rows.report)] for name, run in study.cheap_scorers().items()}
    return cheap | {"stack of the model and the cheap scorers": stacked(study, {MODEL: model} | cheap)}


def differences(study: Study, scores: dict[str, list[Floats]], cuts: dict[str, float], name: str) -> dict[str, Any]:
    """Return the AUC of a scorer less that of each other one, paired, in all, seen and unseen languages."""
    rows = study.rows.report
    judged = JudgedRows([row.label for row in rows], linked_groups(rows), _languages(rows), SEEN[study.task])
    found: dict[str, Any] = {}
    for part in ("all", "seen", "unseen"):
        mask = judged.slices()[part]
        draws = {
            other: draw(judged, Scores(sigmoid(each[1])[None], np.full((1, len(rows)), cuts[other])), mask)
            for other, each in scores.items()
        }
        for other in scores:
            if other != name:
                pair = difference(draws[name], draws[other], "auc")
                found.setdefault(other, {})[part] = pair.model_dump(mode="json")
    return found


def table(result: dict[str, Any]) -> str:
    """Return a Markdown table of a result: F1, AUC, ranking and the AUC that the model is ahead, by part."""
    ranked = any(report["ranking"] for report in result["reports"].values()) and result["setting"] == "qi"
    head = [
        "scorer",
        "languages",
        "F1",
        "always-yes F1",
        "AUC",
        *(["nDCG@10"] if ranked else []),
        "model's AUC less its",
    ]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for name, report in result["reports"].items():
        for part in ("all", "seen", "unseen"):
            cells = [_cell(report[part][key]) for key in ("f1", "always_yes_f1", "auc")]
            if ranked:
                ranking = {"all": report["ranking"]["all"], "seen": report["ranking"]["languages"]["en"]}.get(part)
                cells.append(_cell(ranking["ndcg_at_10"]) if ranking else "")
            gain = result["differences"].get(name, {}).get(part)
            shown = _cell(gain, "+.3f") if gain else ""
            is_sure = gain and (gain["low"] > 0 or gain["high"] < 0)
            lines.append(f"| {name} | {part} | {' | '.join(cells)} | {f'**{shown}**' if is_sure else shown} |")
    return "\n".join(lines)


def _cell(found: dict[str, float], form: str = ".3f") -> str:
    return f"{found['value']:{form}} [{found['low']:{form}}, {found['high']:{form}}]"


def _languages(rows: Rows) -> list[str]:
    return [row.pair.language for row in rows]


def main(arguments: Sequence[str]) -> None:
    """Run one setting and write its JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("setting", choices=["qc", "qc-zero-shot", "qi"])
    parser.add_argument("--max-rows", type=int, help="train on so many rows, drawn by the seed")
    parser.add_argument("--set", action="append", default=[], dest="overrides", help="KEY=VALUE over the recipe")
    parser.add_argument("--arm", action="append", default=[], help="NAME: KEY=VALUE ..., a further model")
    parser.add_argument("--keep", action="store_true", help="keep models in build/ with the same recipe and rows")
    parser.add_argument("--only", help="train the model of this name, then stop: models can be trained side by side")
    parser.add_argument("--models-only", action="store_true", help="leave out the cheap scorers and the stack")
    parser.add_argument("--out", type=Path, help="JSON to write; default: SETTING.json beside this file")
    options = parser.parse_args(arguments)
    logging.basicConfig(format="%(message)s")
    logging.getLogger("training").setLevel(logging.INFO)
    if not DATA.is_dir():
        sys.exit(f"error: no {DATA}; expected the real data beside the project")
    task = Task(options.setting[:2])
    study = Study(task, parts(options.setting, options.max_rows, 0), CachedEncoder(EncoderEmbedder(), BUILD))
    arms = {MODEL: options.overrides}
    for each in options.arm:
        name, _, keys = each.partition(":")
        arms[name.strip()] = [*options.overrides, *keys.split()]
    target = options.out or HERE / f"{options.setting}.json"
    recipe_file = ROOT / "configs" / f"{task}.toml"
    folders = {name: BUILD / f"{target.stem}-{name.replace(' ', '-')}" for name in arms}
    wanted = {name: keys for name, keys in arms.items() if options.only in (None, name)}
    models = {}
    for name, keys in wanted.items():
        given = with_transferred(study, folders[MODEL]) if TRANSFERRED in keys else study.rows
        models[name] = trained(recipe_file, keys, given, folders[name], options.keep)
    if options.only is not None:
        return
    scores = {name: scored(study, folders[name]) for name in models}
    if not options.models_only:
        scores |= with_stack(study, scores[MODEL])
    judged = {name: judge(study, *each) for name, each in scores.items()}
    result = {
        "command": f"python benchmarks/real_data/run.py {' '.join(map(_quoted, arguments))}",
        "setting": options.setting,
        "created": now(),
        "source_commit": source_commit(),
        "machine": machine(),
        "rows": {name: len(rows) for name, rows in study.rows._asdict().items()},
        "chosen_on": "the rows that choose, a tenth of the training rows; nothing is trained on them, dev is reported",
        "models": models,
        "reports": {name: report.model_dump(mode="json") for name, (report, _) in judged.items()},
        "differences": differences(study, scores, {name: cut for name, (_, cut) in judged.items()}, MODEL),
    }
    target.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(table(result))


def _quoted(text: str) -> str:
    return f'"{text}"' if " " in text else text


if __name__ == "__main__":
    main(sys.argv[1:])
