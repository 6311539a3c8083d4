"""The command `ablate`."""

import json
import os
import platform
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from relevance.storage.outputs import write_text
from training.commands.flat import flattened
from training.commands.options import JsonOption
from training.commands.pipeline import RecipeData


@flattened
def ablate(
    recipe: Annotated[Path, typer.Argument(help="A TOML recipe with a section for each strategy.")],
    out: Annotated[Path, typer.Argument(help="The folder to work in; gets study.json, study.md, .svg and .html.")],
    data: RecipeData,
    seeds: Annotated[int, typer.Option(help="Runs of each arm.", min=1)] = 3,
    only: Annotated[list[str] | None, typer.Option(help="Run only this arm and the baseline; repeat.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure the effect of each strategy: translation, negatives, filtering and its control, and the tuned threshold.

    Each arm differs from the baseline in one strategy; all are evaluated on the same rows. Stages that arms share run
    once. To resume an interrupted study, repeat the command. `--set model=probe` gives a rough result in minutes.
    """
    from training.ablation.arms import standard_arms
    from training.ablation.report import by_language, markdown, page, plot
    from training.ablation.study import run_study
    from training.pipeline.store import Store

    chosen = data.load(recipe)
    arms = standard_arms(chosen, only or ())
    store = Store(out)
    with store.locked():
        study = run_study(arms, store, seeds)
        content = provenance() | {"recipe": chosen.model_dump(mode="json")} | study.model_dump(mode="json")
        title = f"{chosen.name}: difference of AUC on {study.evaluated_on}, {seeds} seeds ({study.model})"
        write_text(out / "study.json", json.dumps(content, indent=1) + "\n")
        write_text(out / "study.md", markdown(study) + "\n" + by_language(study))
        write_text(out / "study.svg", plot(study, title))
        write_text(out / "study.html", page(study, chosen.name))
    print(json.dumps(content) if as_json else markdown(study))


def provenance() -> dict[str, Any]:
    """Return the provenance of a study: command, time, commit and machine."""
    import torch

    from training.data.provenance import now, source_commit

    return {
        "command": shlex.join(["relevance" if Path(sys.argv[0]).name != "run.py" else sys.argv[0], *sys.argv[1:]]),
        "created": now(),
        "source_commit": source_commit(),
        "machine": {
            "cpus": os.cpu_count(),
            "processor": platform.machine(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
            "python": platform.python_version(),
            "torch": torch.__version__,
        },
    }
