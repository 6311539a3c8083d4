"""The command `evaluate`."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from relevance.errors import InputError
from relevance.model.reports import REPORTS_FOLDER
from relevance.storage.outputs import write_text
from training.commands.flat import flattened
from training.commands.options import ROWS_HELP, Output, PairFiles
from training.data.files.writers import check_ending, check_files

if TYPE_CHECKING:
    from rich.console import RenderableType

    from relevance.evaluation.metrics import Report
    from training.reports.evaluation import Run

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Further:
    """What a model is compared with, and the page."""

    against: Annotated[
        list[Path] | None, typer.Option(help="Another checkpoint or bundle of the task to compare with; repeat.")
    ] = None
    page: Annotated[
        Path | None,
        typer.Option(help="Write a report page to this file (.html); in CHECKPOINT/reports, export takes it along."),
    ] = None


@flattened
def evaluate(
    model: Annotated[Path, typer.Argument(help="A folder written by `relevance train` or `relevance export`.")],
    file: Annotated[Path, typer.Argument(help=f"Labelled pairs. {ROWS_HELP}")],
    files: PairFiles,
    further: Further,
    output: Output,
) -> None:
    """Score labelled pairs with a model: F1, always-yes F1 and AUC, by language, with intervals.

    Queries with several candidates have ranking metrics too: nDCG@10, MRR@10, precision, pairwise accuracy. Labels use
    the threshold of each language, as in the service. Intervals resample groups of linked rows. The page adds
    calibration, curves and the worst errors; it scores the words of the worst errors too.
    """
    from training.fitting.evaluation.comparison import comparison_table
    from training.fitting.evaluation.report import card_of
    from training.reports.evaluation import Evaluation, Run, analyse

    others = further.against or []
    read = [] if _is_report_of(model, further.page) else [model]
    check_files([], [file, *read, *others], others=[further.page], overwrite=output.overwrite)
    check_ending(further.page, ".html", ".htm")
    task = card_of(model).task
    for folder in others:
        if (found := card_of(folder).task) is not task:
            raise InputError(f"--against {folder}: a model for task {found}; expected one for {task}, as {model} is")
    run = Run.of(model, files.read(file, task, model, "rows"))
    _warn_of_findings(run, file)
    comparisons = [run.beside(folder) for folder in others]
    analysis = None if further.page is None else analyse(run)
    report = Evaluation(**dict(run.report()), comparisons=comparisons, analysis=analysis)
    if missing := _unranked(report):
        log.warning("%s: %s, so there are no ranking metrics", file.name, missing)
    if further.page is not None:
        from training.reports.evaluation_page import render

        write_text(further.page, render(report, run.model.card, file.name))
        log.info("%s: written", further.page)
    name = run.model.card.name
    tables = [comparison_table(report.comparisons, name)] if report.comparisons else []
    lines = [f"{name} is {each.line()}" for each in report.comparisons]
    print_metrics(report, f"{name} on {file.name}", output.as_json, *tables, *lines)


def print_metrics(report: "Report", title: str, as_json: bool, *further: "RenderableType") -> None:
    """Print metrics as one JSON object, or as tables and what else there is to show."""
    from rich.console import Console

    from training.fitting.evaluation.report import report_tables

    if as_json:
        print(report.model_dump_json())
    else:
        Console(width=140, highlight=False, markup=False).print(report_tables(report, title), *further, sep="\n")


def _is_report_of(model: Path, page: Path | None) -> bool:
    """Return whether a page goes into the reports of a checkpoint; a bundle is complete, so nothing goes into it."""
    from relevance.model.bundle import MANIFEST_FILE

    is_bundle = (model / MANIFEST_FILE).is_file()
    return page is not None and not is_bundle and page.resolve().parent == (model / REPORTS_FOLDER).resolve()


def _warn_of_findings(run: "Run", file: Path) -> None:
    from relevance.evaluation.soundness import Advice
    from training.fitting.evaluation.report import judge_labels

    card = run.model.card
    for finding in judge_labels(run.rows, run.scored.scores, card):
        log.warning("%s: %s", file.name, finding)
    if kept := [code for code, advice in card.rerank_advice.items() if advice is Advice.KEEP_ORDER]:
        log.warning("%s: no better than the base model's cosine on dev in %s", card.name, ", ".join(kept))


def _unranked(report: "Report") -> str | None:
    """Return why nothing is ranked; None where something is."""
    if report.ranking is None:
        return "no query has several candidates"
    if not report.ranking.all.queries:
        return f"{report.ranking.all.one_class} queries have several candidates, each query's all of one label"
    return None
