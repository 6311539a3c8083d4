"""The commands `encoder` and `train`."""

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from relevance.errors import InputError
from relevance.languages import chosen_languages
from relevance.model.heads import HeadKind
from relevance.tasks import LabeledPair, Pair, Task
from training.commands.flat import flattened
from training.commands.models.evaluate import print_metrics
from training.commands.options import (
    Output,
    OverwriteOption,
    PairFiles,
    RecipeOption,
)
from training.data.files.writers import check_files

if TYPE_CHECKING:
    from training.fitting.checkpoint import Job
    from training.fitting.kernel_plan import KernelPlan
    from training.fitting.plan import Plan
    from training.fitting.recipe import Recipe

log = logging.getLogger(__name__)

GIB = 2**30


@dataclass(frozen=True, slots=True)
class Cuts:
    """Which layers and tokens of a base model are kept."""

    layers: Annotated[int | None, typer.Option(help="Keep the first N layers.", min=1)] = None
    trim_corpus: Annotated[
        Path | None, typer.Option(help="A text file; keep only the tokens of its lines (and of --trim-script).")
    ] = None
    trim_script: Annotated[list[str] | None, typer.Option(help="Keep the characters of a script; repeat.")] = None
    whole_scripts: Annotated[bool, typer.Option("--whole-scripts", help="Keep every token of those scripts.")] = False


@flattened
def encoder(
    name: Annotated[str, typer.Argument(help="packaged:multilingual-e5-small, a local folder, or a hub id.")],
    out: Annotated[Path, typer.Argument(help="The model folder to make.")],
    cuts: Cuts,
    overwrite: OverwriteOption = False,
) -> None:
    """Write a base model as a transformers folder: fewer layers, a smaller vocabulary."""
    from training.models.base.base_models import resolve_base_model
    from training.models.base.prepared import EncoderOptions, prepare_encoder

    check_files([], [Path(name), cuts.trim_corpus], others=[out], overwrite=overwrite)
    corpus = _lines(cuts.trim_corpus) if cuts.trim_corpus else None
    options = EncoderOptions(cuts.layers, corpus, tuple(cuts.trim_script or ()), cuts.whole_scripts)
    report = prepare_encoder(resolve_base_model(name), out, options)
    before, after = report.before, report.after
    print(f"{out}: {after.layers} of {before.layers} layers, {after.vocabulary:,} of {before.vocabulary:,} tokens, ")
    print(f"  {after.parameters:,} of {before.parameters:,} parameters; licence {report.base.license}")


@dataclass(frozen=True, slots=True)
class TrainingFiles:
    """Files of rows for training and dev."""

    files: PairFiles
    train: Annotated[list[Path], typer.Option(help="Labelled pairs to train on; repeat.")]
    dev: Annotated[Path, typer.Option(help="Labelled pairs to choose checkpoint and threshold.")]
    language: Annotated[list[str] | None, typer.Option(help="Train on these languages only; repeat.")] = None
    max_rows: Annotated[int | None, typer.Option(help="Train on a random sample of this many rows.", min=2)] = None
    unlabelled: Annotated[
        list[Path] | None,
        typer.Option(help="Pairs in languages without training rows, to set their thresholds; repeat."),
    ] = None

    def train_rows(self, recipe: "Recipe", out: Path) -> Sequence[LabeledPair]:
        """Return the rows to train on, in temporary files."""
        from training.data.splits import draw
        from training.data.stored.rows import chained, on_disk

        files = enumerate(self.train, start=1)
        rows = chained(*(on_disk(self.files.store(file, recipe.task, out, f"train{number}")) for number, file in files))
        return draw(_of_languages(rows, self.language), self.max_rows, recipe.seed)

    def unlabelled_pairs(self, task: Task) -> list[Pair]:
        """Return the pairs without labels."""
        from training.data.dataset import read_rows

        how = self.files.reading
        files = [read_rows(file, task, reading=how, require_labels=False) for file in self.unlabelled or ()]
        return [row.pair for found in files for row in found.rows]


@dataclass(frozen=True, slots=True)
class RecipeChanges:
    """Options that override the recipe."""

    base_model: Annotated[str | None, typer.Option(help="Override the recipe's base_model.")] = None
    seed: Annotated[int | None, typer.Option(help="Override the recipe's seed.", min=0)] = None
    overrides: RecipeOption = None

    def load(self, path: Path) -> "Recipe":
        """Load a recipe and apply the overrides."""
        from training.pipeline.recipe import load_fine_tuning

        overrides = [*(self.overrides or ())]
        if self.base_model is not None:
            overrides.append(f"base_model={json.dumps(self.base_model, ensure_ascii=False)}")
        if self.seed is not None:
            overrides.append(f"seed={self.seed}")
        return load_fine_tuning(path, overrides)


@flattened
def train(
    recipe: Annotated[Path, typer.Argument(help="A TOML recipe, see configs/.")],
    out: Annotated[Path, typer.Argument(help="The checkpoint folder to make. It is written atomically.")],
    files: TrainingFiles,
    changes: RecipeChanges,
    output: Output,
    plan: Annotated[
        bool, typer.Option("--plan", help="Train nothing: print what the run would take: parameters, memory, steps.")
    ] = False,
) -> None:
    """Fine-tune a cross-encoder. To resume an interrupted run, repeat the command."""
    import numpy as np

    from training.data.keep_out import iter_linked
    from training.fitting.checkpoint import Job
    from training.fitting.checkpoint import train as run

    check_files([], [recipe, *files.train, files.dev], others=[] if plan else [out], overwrite=output.overwrite)
    chosen = changes.load(recipe)
    rows = files.train_rows(chosen, out)
    dev = files.files.read(files.dev, chosen.task, out, "dev")
    leaked = np.fromiter(iter_linked(rows, [dev]), bool, len(rows))
    if leaked.any():
        log.warning(
            "%d training rows (first: id %s) have a query of dev or are linked with its rows: dev metrics are too good",
            *(int(leaked.sum()), next(compress(rows, leaked)).id),
        )
    log.info("%s: %d pairs to train on, %d for dev", chosen.name, len(rows), len(dev))
    if plan:
        _print_plan(Job(chosen, rows, dev, out), output.as_json)
        return
    card = run(Job(chosen, rows, dev, out, files.unlabelled_pairs(chosen.task)), overwrite=output.overwrite)
    if card.metrics is not None:
        print_metrics(card.metrics, f"{chosen.name} on {files.dev.name}", output.as_json)


def _print_plan(job: "Job", as_json: bool) -> None:
    from training.fitting.kernel_plan import plan_kernel
    from training.fitting.plan import plan

    recipe = job.recipe
    given = recipe, job.train, job.dev, job.lacking
    found = plan_kernel(*given) if recipe.head.kind is HeadKind.KERNEL else plan(*given)
    if as_json:
        print(json.dumps(asdict(found) | {"total": found.total}))
        return
    print(f"{recipe.name}: {found.parameters:,} parameters, {_told(found)}")


def _told(found: "Plan | KernelPlan") -> str:
    """Return what a plan says beside the number of parameters, in lines."""
    from training.fitting.plan import Plan

    def gib(*parts: str) -> str:
        return ", ".join(f"{part} {getattr(found, part) / GIB:.2f}" for part in parts)

    memory = f"{found.total / GIB:.2f} GiB"
    if isinstance(found, Plan):
        each = f" in each of {found.processes} processes" if found.processes > 1 else ""
        counted = gib("weights", "gradients", "optimizer", "kept", "activations")
        whole = f"; weights in fp32, to read and merge them {found.whole / GIB:.2f}" if found.whole else ""
        return (
            f"{found.trained:,} of them learn, in {found.precision}\n"
            f"steps: {found.steps:,}; the costliest computes {found.rows} pairs of {found.tokens} tokens at once\n"
            f"memory{each}: {memory} ({counted}; scoring dev {found.evaluation / GIB:.2f}{whole}), Python not counted"
        )
    return (
        f"those of the head are solved for\n"
        f"landmarks: {found.landmarks:,} of the {found.rows:,} training rows that count\n"
        f"the encoder reads {found.tokens:,} tokens: of the landmarks once, of {found.dev_rows:,} dev rows twice\n"
        f"memory: {memory} ({gib('weights', 'vectors', 'kernel', 'blocks')}; scoring dev "
        f"{found.evaluation / GIB:.2f}), Python not counted\n"
        f"disk: {found.disk / GIB:.2f} GiB while it runs, {found.checkpoint / GIB:.2f} for the checkpoint\n"
        f"time: some {found.cpu_seconds:,.0f} s of one core, at the pace of one measured run"
    )


def _of_languages(rows: Sequence[LabeledPair], languages: list[str] | None) -> Sequence[LabeledPair]:
    import numpy as np

    from training.data.stored.rows import filtered, strata_of

    if not languages:
        return rows
    wanted = set(chosen_languages("--language", languages))
    if missing := wanted - {language for language, _ in strata_of(rows)}:
        raise InputError(f"--language {', '.join(sorted(missing))}: no training row has it")
    return filtered(rows, np.fromiter((language in wanted for language, _ in strata_of(rows)), bool, len(rows)))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"corpus {path}: {error}; expected a UTF-8 text file") from None
