"""Time and memory of the data stages by the number of rows: `python benchmarks/scale/growth.py --rows 10000 100000`.

Reads files of the SYNTHETIC sample (`rows.py` makes those that are missing; nothing here is about quality) and runs
read, clean, split, report, negatives and translate, each in a process of its own, from Parquet to Parquet in the
pipeline's form. A stage's memory is the peak of its process (VmHWM, so Linux only), its time that of the whole process.
CPU seconds, of all threads, are what to compare: wall seconds are those of a machine with other work. `clean` does not
judge language tags; `tags` does. `negatives` makes one of every positive row of the cleaned rows, many more than by
default, from embeddings that are given: RANDOM vectors, drawn by the text and in queries near a positive candidate,
which the stage `vectors`, not counted among the figures, writes to the cache on disk where those of a model would be.
`translate` makes rows of one more language, of all cleaned rows whose query is in a translation memory of 20,000
queries, without the gate of languages; the stage `memory`, not counted either, writes that memory: invented words,
since the sample has no translations. Exponents are slopes of log CPU seconds over log rows, from 100,000 rows.
Writes `growth.json` beside this file, or `--out`. With `--work FOLDER` the outputs and the figures of finished stages
stay there, and a run that was ended goes on: figures of other commits than `source_commit` then name theirs.

`--pipeline` runs the stages of `relevance pipeline run` before training in their place, each in a process that finds
the results of those before it: read, clean, split, mine (40 % negatives) and filter (the probe judges, in five folds).
Their embeddings are given in the same way, by `vectors` after split.
"""

import argparse
import contextlib
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rows import make
from run import GivenEmbeddings, in_process, machine, peak_mib

from relevance.languages import UNKNOWN_LANGUAGE
from relevance.tasks import LabeledPair, Task
from training.data.provenance import now, source_commit

HERE = Path(__file__).parent
STAGES = ("read", "clean", "split", "report", "vectors", "negatives", "memory", "translate", "tags")
GIVEN = {"vectors": "negatives", "memory": "translate"}  # what a stage writes is for another
UNCOUNTED = (*GIVEN, "pipeline vectors")
UP_TO = ("tags=100000", "translate=1000000")
PIPELINE = ("pipeline read", "pipeline clean", "pipeline split", "pipeline vectors", "pipeline mine", "pipeline filter")
FITTED_FROM = 100_000
TASK = Task.QC
TARGET, MEMORY_QUERIES = "nl", 20_000


def run_stage(stage: str, work: Path) -> dict[str, Any]:
    """Run one stage on the files of a folder; return the rows that went in and came out."""
    from training.cleaning.options import CleaningOptions, Tags
    from training.cleaning.stage import clean
    from training.data.dataset import store_pairs
    from training.data.groups import iter_groups
    from training.data.splits import split_pairs, summarize
    from training.pipeline.tables import open_rows, write_rows
    from training.reports.data_page import render
    from training.reports.measures import measure

    if stage in PIPELINE:
        return pipeline(stage.removeprefix("pipeline "), work)
    if stage == "read":
        rows = store_pairs(work / "parts", TASK).rows
        write_rows(work / "rows.parquet", rows, TASK)
        return {"rows_in": len(rows), "rows_out": len(rows)}
    if stage in ("clean", "tags"):
        rows = open_rows(work / "rows.parquet", TASK)
        left, _ = clean(rows, TASK, CleaningOptions(tags=Tags.UNK if stage == "tags" else Tags.OFF))
        write_rows(work / f"{stage}.parquet", left, TASK)
        return {"rows_in": len(rows), "rows_out": len(left)}
    if stage == "split":
        rows = open_rows(work / "clean.parquet", TASK)
        parts = split_pairs(rows, seed=0, groups=iter_groups(rows))
        for name, part in parts.items():
            write_rows(work / f"{name}.parquet", part, TASK)
        queries = sum(part.queries for part in summarize(parts))
        return {"rows_in": len(rows), "rows_out": sum(map(len, parts.values())), "queries": queries}
    if stage in ("vectors", "negatives"):
        return negatives(stage, work)
    if stage in ("memory", "translate"):
        return translate(stage, work)
    files = {name: open_rows(work / f"{name}.parquet", TASK) for name in ("train", "dev", "test")}
    (work / "report.html").write_text(render(measure(files, TASK, tags=False)), encoding="utf-8")
    return {"rows_in": sum(map(len, files.values())), "rows_out": 0}


class Drawn:
    """The embedder of GivenEmbeddings with a prefix, for the cache on disk."""

    name, key = GivenEmbeddings.name, "growth"

    def __init__(self, given: GivenEmbeddings | None, prefix: str = "") -> None:
        self._given, self._prefix = given, prefix

    def with_prefix(self, prefix: str) -> "Drawn":
        """Return the same embedder with another prefix."""
        return Drawn(self._given, prefix)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return float32 [N, 384]."""
        if self._given is None:
            raise SystemExit(f"error: {len(texts)} vectors are not on disk; expected all that `vectors` wrote")
        return self._given.embed(texts, self._prefix)


def negatives(stage: str, work: Path) -> dict[str, Any]:
    """Write the vectors of the cleaned rows to disk, or make negatives of the rows with them."""
    from relevance.text.formatting import PairFormat
    from training.data.stored.batches import to_rows
    from training.data.stored.rows import candidates_of
    from training.embedding.vectors import CANDIDATE_PREFIX, QUERY_PREFIX, CachedEncoder
    from training.negatives.options import NegativeOptions
    from training.negatives.sampling import sample_negatives
    from training.pipeline.tables import open_rows, write_rows

    rows, cache = open_rows(work / "clean.parquet", TASK), work / "vectors"
    if stage == "negatives":
        options = NegativeOptions(strategy="easy", per_positive=1)
        mined, report = sample_negatives(rows, TASK, options, CachedEncoder(Drawn(None), cache))
        write_rows(work / "mined.parquet", mined, TASK)
        rejected = report.rejected()
        return {"rows_in": len(rows), "rows_out": len(mined), "made": report.made, "rejected": rejected}
    paths = list(dict.fromkeys(candidates_of(rows)))
    form = PairFormat().fitted(TASK, paths)
    given = GivenEmbeddings([], TASK)
    CachedEncoder(Drawn(given), cache).embed([form.candidate_text(TASK, path) for path in paths], CANDIDATE_PREFIX)
    for batch in rows.batches():
        given = GivenEmbeddings(to_rows(batch), TASK, form)
        CachedEncoder(Drawn(given), cache).embed(given.queries, QUERY_PREFIX)
    return {"rows_in": len(rows), "rows_out": 0}


def translate(stage: str, work: Path) -> dict[str, Any]:
    """Write a translation memory of some queries of the cleaned rows, or make rows of one more language with it."""
    from training.data.stored.rows import strata_of
    from training.pipeline.tables import open_rows, write_rows
    from training.translation.augment import augment
    from training.translation.backends.choice import open_translators
    from training.translation.chain import TranslatorChain
    from training.translation.options import GateOptions, TranslationOptions

    rows, memory = open_rows(work / "clean.parquet", TASK), work / "memory.jsonl"
    if stage == "memory":
        queries = ((row.pair.language, row.pair.query) for row in rows if row.pair.language != UNKNOWN_LANGUAGE)
        some = list(islice(dict.fromkeys(queries), MEMORY_QUERIES))
        words = (" ".join(f"{word}en" if word.isalpha() else word for word in query.split()) for _, query in some)
        with memory.open("w", encoding="utf-8") as file:
            for (language, query), translation in zip(some, words, strict=True):
                unit = {"language": language, "text": query, "translations": {TARGET: translation}}
                file.write(json.dumps(unit) + "\n")
        return {"rows_in": len(rows), "rows_out": 0, "units": len(some)}
    if TARGET in {language for language, _ in strata_of(rows)}:
        raise SystemExit(f"error: rows are in {TARGET}; expected a target that they lack")
    options = TranslationOptions(targets=(TARGET,), gates=GateOptions(language=False))
    with open_translators([f"memory:{memory}"]) as translators:
        out, report = augment(rows, options, TranslatorChain(translators))
    write_rows(work / "translated.parquet", out, TASK)
    rejected = report.rejected()
    return {"rows_in": len(rows), "rows_out": len(out), "made": report.made, "rejected": rejected}


def pipeline(stage: str, work: Path) -> dict[str, Any]:
    """Run one stage of the pipeline over the results of those before it, or write the vectors of the split rows."""
    from training.embedding.vectors import CachedEncoder
    from training.pipeline.recipe import PipelineRecipe
    from training.pipeline.run import Pipeline
    from training.pipeline.stage_run import TRAIN, Caches
    from training.pipeline.store import Store
    from training.pipeline.tables import open_rows

    content = {
        "name": "growth",
        "task": TASK,
        "data": {"train": [work / "parts"]},
        "cleaning": {"tags": "off"},
        "negatives": {"enabled": True, "strategy": "easy", "negative_rate": 0.4},
        "filtering": {"enabled": True},
    }
    run = Pipeline(PipelineRecipe.model_validate(content), Store(work / "pipeline"))
    embeddings = work / "pipeline-vectors"
    run.caches = Caches(run.caches.folder, {run.recipe.base_model: CachedEncoder(Drawn(None), embeddings)})
    if stage == "vectors":
        rows = open_rows(run.result("split").file(TRAIN), TASK)
        write_vectors(rows, embeddings)
        return {"rows_in": len(rows), "rows_out": 0}
    report = run.result(stage).manifest.report
    if stage in ("read", "split"):
        parts = report["rows"] if stage == "read" else {part: report[part]["rows"] for part in ("train", "dev", "test")}
        return {"rows_in": sum(parts.values()), "rows_out": parts["train"]}
    facts = {name: report[name] for name in ("rows_in", "rows_out")}
    if stage == "filter":
        facts |= {"auc_out_of_fold": round(report["rounds"][0]["auc"], 4), "flagged": report["rounds"][0]["flagged"]}
    return facts


def write_vectors(rows: Iterable[LabeledPair], cache: Path) -> None:
    """Write the vectors of all queries, paths and leaves of rows on disk to the cache."""
    from relevance.text.formatting import PairFormat
    from training.data.stored.batches import in_chunks
    from training.data.stored.rows import candidates_of
    from training.embedding.vectors import CANDIDATE_PREFIX, QUERY_PREFIX, CachedEncoder

    paths = list(dict.fromkeys(candidates_of(rows)))
    form = PairFormat().fitted(TASK, paths)
    texts = [form.candidate_text(TASK, path) for path in paths] + [(form.levels(path) or [path])[-1] for path in paths]
    CachedEncoder(Drawn(GivenEmbeddings([], TASK)), cache).embed(texts, CANDIDATE_PREFIX)
    for chunk in in_chunks(rows):
        given = GivenEmbeddings(chunk, TASK, form)
        CachedEncoder(Drawn(given), cache).embed([form.query_text(row.pair.query) for row in chunk], QUERY_PREFIX)


def measured(rows: int, files: Sequence[Path], stages: Sequence[str], kept: Path | None) -> Iterator[dict[str, Any]]:
    """Yield the figures of the stages on so many rows, after each stage, so that a run that is ended keeps them."""
    found: dict[str, Any] = {}
    with contextlib.ExitStack() as stack:
        if kept is None:
            kept = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="relevance-growth-")))
        work = kept / str(rows)
        (work / "parts").mkdir(parents=True, exist_ok=True)
        for file in files:
            part = work / "parts" / file.name
            part.unlink(missing_ok=True)
            part.symlink_to(file.resolve())
        for stage in stages:
            figures = work / f"{stage}.json"
            if not figures.is_file():
                facts, seconds = in_process(__file__, [f"--stage={stage}", f"--folder={work}"])
                facts |= {"seconds": round(seconds, 1), "source_commit": source_commit()}
                figures.write_text(json.dumps(facts), encoding="utf-8")
                what = f"{rows:,} {stage}: {facts['cpu_seconds']} CPU s, {facts['peak_mib']} MiB"
                print(what, file=sys.stderr, flush=True)
            found[stage] = json.loads(figures.read_text(encoding="utf-8"))
            if found[stage]["source_commit"] == source_commit():
                del found[stage]["source_commit"]
            yield dict(found)


def model(sizes: dict[int, dict[str, Any]]) -> dict[str, Any]:
    """Return for each stage the exponents of CPU seconds, microseconds a row, and peaks over those of fewer rows."""
    found = {}
    for stage in (each for each in (*STAGES, *PIPELINE) if each not in UNCOUNTED):
        some = [(rows, sizes[rows][stage]) for rows in sorted(sizes) if rows >= FITTED_FROM and stage in sizes[rows]]
        if len(some) < 2:
            continue
        slopes = [
            math.log(b["cpu_seconds"] / a["cpu_seconds"]) / math.log(more / fewer)
            for (fewer, a), (more, b) in pairwise(some)
        ]
        rows, last = some[-1]
        found[stage] = {
            "exponents": [round(slope, 3) for slope in slopes],
            "microseconds_a_row": round(last["cpu_seconds"] / rows * 1e6, 1),
            "peak_ratios": [round(b["peak_mib"] / a["peak_mib"], 2) for (_, a), (_, b) in pairwise(some)],
        }
    return found


def main(arguments: Sequence[str]) -> None:
    """Measure and write JSON; with --stage, run that stage alone and print its facts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000, 10_000_000])
    parser.add_argument("--up-to", nargs="+", default=UP_TO, help="STAGE=ROWS: the most rows that a stage runs on")
    parser.add_argument(
        "--data", type=Path, default=Path(tempfile.gettempdir()) / "relevance-rows", help="files of rows"
    )
    parser.add_argument("--paths", type=int, default=4_000, help="different category paths")
    parser.add_argument("--out", type=Path, default=HERE / "growth.json")
    parser.add_argument("--pipeline", action="store_true", help="the stages of the pipeline before training")
    parser.add_argument("--stages", nargs="+", choices=STAGES, help="these alone, in this order")
    parser.add_argument("--work", type=Path, help="folder that keeps outputs and figures, to go on from")
    parser.add_argument("--stage", choices=[*STAGES, *PIPELINE], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.stage:
        begun = time.process_time()
        facts = run_stage(options.stage, options.folder)
        print(json.dumps({"peak_mib": peak_mib(), "cpu_seconds": round(time.process_time() - begun, 2)} | facts))
        return
    result = {
        "command": " ".join(["python benchmarks/scale/growth.py", *arguments]),
        "created": now(),
        "source_commit": source_commit(),
        "machine": machine(),
        "note": "synthetic rows, see the top of growth.py",
        "sizes": {},
    }
    limits = {stage: int(rows) for stage, _, rows in (each.partition("=") for each in options.up_to)}
    for rows in options.rows:
        files = make(options.data, TASK, rows, options.paths)
        chosen = options.stages or (PIPELINE if options.pipeline else STAGES)
        stages = [stage for stage in chosen if rows <= limits.get(GIVEN.get(stage, stage), rows)]
        for found in measured(rows, files, stages, options.work):
            result["sizes"][rows] = found
            content = result | {"growth": model(result["sizes"]), "load_average_after": os.getloadavg()[0]}
            options.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
