"""The command `relevance serve`."""

import logging
import os
from pathlib import Path
from typing import Annotated

import typer

from relevance.errors import BundleError, ConfigError
from relevance.tasks import Task

log = logging.getLogger(__name__)

app = typer.Typer()


@app.command()
def serve(
    bundle: Annotated[
        list[str], typer.Option(metavar="TASK=DIR", help="A bundle to serve, as qc=bundles/qc; once for each task.")
    ],
    host: Annotated[str | None, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes any free one.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda.")] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads of a model run; 0: every core.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that serve on a CPU, each with its models.")] = None,
    log_level: Annotated[str | None, typer.Option(help="DEBUG, INFO, WARNING or ERROR.")] = None,
) -> None:
    """Score pairs over HTTP. Every setting is also an environment variable, RELEVANCE_ and its name in capitals."""
    from service.logs import configure_logging
    from service.server import serve as serve_bundles
    from service.settings import Settings, unknown_variables

    bundles = parse_bundles(bundle)
    settings = Settings.build(
        host=host, port=port, device=device, threads=threads, workers=workers, log_level=log_level
    )
    configure_logging(settings.log_level)
    for name in unknown_variables(os.environ):
        log.warning(f"{name} is no setting of the service and is ignored", extra={"variable": name})
    serve_bundles(settings, bundles)


def parse_bundles(arguments: list[str]) -> dict[Task, Path]:
    """Return the folder of each task. Raises ConfigError for what is not TASK=DIR, BundleError where DIR is missing."""
    bundles: dict[Task, Path] = {}
    for argument in arguments:
        name, equals, folder = argument.partition("=")
        tasks = {task.value: task for task in Task}
        if not equals or not folder or name not in tasks:
            raise ConfigError(f"--bundle {argument!r}: expected TASK=DIR with TASK one of {', '.join(tasks)}")
        if tasks[name] in bundles:
            raise ConfigError(f"--bundle {argument!r}: task {name} is given twice, expected one bundle a task")
        if not Path(folder).is_dir():
            raise BundleError(f"bundle {folder}: no such folder; expected one written by `relevance export`")
        bundles[tasks[name]] = Path(folder)
    return bundles
