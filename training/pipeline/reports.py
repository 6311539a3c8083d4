"""The reports that stand beside a pipeline's checkpoint: of its rows, and of what the model makes of those of test.

They show rows of the data (relevance.model.reports).
"""

from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from relevance.model.card import ModelCard
from relevance.model.reports import REPORTS_FOLDER
from relevance.storage.outputs import write_text
from training.pipeline.stage_run import DEV, TEST, TRAIN, StageRun

DATA_PAGE, EVALUATION_PAGE = "data.html", "evaluation.html"


def write_reports(run: StageRun, checkpoint: Path, evaluated_on: str, logits: ArrayLike) -> None:
    """Write both reports into a checkpoint; `logits` [N] are those of the rows that were evaluated, test or dev.

    Language tags are not judged, which takes long and needs another package: `relevance data report` does it.
    """
    from training.reports import data_page, evaluation_page
    from training.reports.evaluation import Evaluation, Run, analyse
    from training.reports.measures import measure

    folder, task = checkpoint / REPORTS_FOLDER, run.recipe.task
    files = {name: rows for name in (TRAIN, DEV, TEST) if len(rows := run.stored(name))}
    write_text(folder / DATA_PAGE, data_page.render(measure(files, task, tags=False)))
    rows = run.rows(TEST if evaluated_on == "test" else DEV)
    judged = Run.of_logits(checkpoint, rows, np.asarray(logits))
    found = Evaluation(**dict(judged.report()), analysis=analyse(judged))
    write_text(folder / EVALUATION_PAGE, evaluation_page.render(found, ModelCard.load(checkpoint), evaluated_on))
