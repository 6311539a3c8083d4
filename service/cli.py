"""The commands of the service: `relevance serve`, `relevance settings` and `relevance keys new`."""

import logging
import os
import sys
import textwrap
from pathlib import Path
from typing import Annotated

import typer

from relevance.errors import BundleError, ConfigError
from relevance.tasks import Task

log = logging.getLogger(__name__)

app = typer.Typer()
keys = typer.Typer(help="Make API keys for the service.", no_args_is_help=True)
app.add_typer(keys, name="keys")


@app.command()
def serve(
    bundle: Annotated[
        list[str], typer.Option(metavar="TASK=DIR", help="A bundle to serve, as qc=bundles/qc; once for each task.")
    ],
    host: Annotated[str | None, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes any free one.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda.")] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads of a model run; 0: every core.")] = None,
    log_level: Annotated[str | None, typer.Option(help="DEBUG, INFO, WARNING or ERROR.")] = None,
    api_keys: Annotated[Path | None, typer.Option(help="TOML file of the API keys that may call.")] = None,
    tls_certificate: Annotated[Path | None, typer.Option(help="PEM file of the certificate: serves HTTPS.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM file of the certificate's key.")] = None,
    tls_client_ca: Annotated[Path | None, typer.Option(help="PEM file: callers need a certificate of these.")] = None,
) -> None:
    """Score pairs over HTTP. Every setting is an environment variable, too; `relevance settings` lists them all."""
    from service.environment import suggested, unknown_variables
    from service.observability.logs import configure_logging
    from service.process.server import serve as serve_bundles
    from service.settings import Settings

    bundles = parse_bundles(bundle)
    settings = Settings.build(
        host=host,
        port=port,
        device=device,
        threads=threads,
        log_level=log_level,
        api_keys=api_keys,
        tls_certificate=tls_certificate,
        tls_key=tls_key,
        tls_client_ca=tls_client_ca,
    )
    configure_logging(settings.log_level, settings.log_format)
    for name in unknown_variables(os.environ):
        log.warning(f"{name} is no setting of the service and is ignored{suggested(name)}", extra={"variable": name})
    serve_bundles(settings, bundles)


@app.command("settings")
def list_settings() -> None:
    """List the service's settings: environment variable, default, and the effect of a higher or lower value."""
    from service.settings import Settings

    for name, field in Settings.model_fields.items():
        print(f"RELEVANCE_{name.upper()} ({'absent' if field.default is None else field.default})")
        print(textwrap.fill(field.description or "", 100, initial_indent="    ", subsequent_indent="    "))


@keys.command("new")
def new_key(
    name: Annotated[str, typer.Argument(help="What the log calls the key: letters, digits, dot, dash, underscore.")],
    scope: Annotated[
        list[str] | None, typer.Option(help="score, metrics or admin; repeat for several. Without it: score.")
    ] = None,
) -> None:
    """Make an API key: prints its secret, which is not shown again, and the entry for the file of keys."""
    from service.auth.key_file import entry, new_secret

    secret = new_secret()
    written = entry(name, secret, scope or ["score"])
    print(f"secret, for the caller; it is shown this once: {secret}", file=sys.stderr)
    print(written, end="")


def parse_bundles(arguments: list[str]) -> dict[Task, Path]:
    """Return the folder of each task. Raises ConfigError where one is not TASK=DIR, BundleError without DIR."""
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
