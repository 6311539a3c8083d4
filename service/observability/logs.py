"""Formats logs on stderr: JSON lines, or text on a terminal. Never writes a query or a candidate."""

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from types import TracebackType
from typing import Literal

from relevance.errors import RelevanceError

ExceptionInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]

_PLAIN = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message", "taskName"}


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time, level, logger, event, and the fields passed as `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line of JSON."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "event": record.getMessage(),
        }
        line |= {key: value for key, value in vars(record).items() if key not in _PLAIN}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)

    def formatException(self, ei: ExceptionInfo) -> str:  # noqa: N802 - the name is logging's
        """Return the traceback of an exception, causes first. Its message is left out if it may quote a request."""
        error, parts = ei[1], []
        while error is not None:
            parts.append("".join(traceback.format_tb(error.__traceback__)) + _message(error))
            error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        return "\nwhich led to:\n".join(reversed(parts))


class TextFormatter(JsonFormatter):
    """One line of text: time of day, level unless INFO, event, and the fields passed as `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as text. A traceback follows on its own lines."""
        level = "" if record.levelno == logging.INFO else f"{record.levelname}: "
        extra = {key: value for key, value in vars(record).items() if key not in _PLAIN}
        event = record.getMessage()
        fields = " ".join(f"{key}={_brief(value)}" for key, value in extra.items() if not _is_in(event, value))
        line = f"{datetime.fromtimestamp(record.created).astimezone():%H:%M:%S} {level}{event}"
        line = f"{line}  {fields}" if fields else line
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def _is_in(event: str, value: object) -> bool:
    return isinstance(value, str) and value in event


def _brief(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if text.isprintable() and " " not in text else json.dumps(text)


def _message(error: BaseException) -> str:
    name = type(error).__name__
    # Only Python's own OSErrors: those of an HTTP client may quote a header.
    builtin = isinstance(error, OSError) and type(error).__module__ == "builtins"
    safe = isinstance(error, RelevanceError) or builtin or type(error).__module__.startswith("onnxruntime")
    return f"{name}: {error}" if safe else f"{name} (message left out: it may quote a request)"


def configure_logging(level: str, form: Literal["auto", "json", "text"] = "auto") -> None:
    """Send all logs of this process to stderr as JSON lines or text. `auto`: text if stderr is a terminal."""
    handler = logging.StreamHandler(sys.stderr)
    as_text = form == "text" or (form == "auto" and sys.stderr.isatty())
    handler.setFormatter(TextFormatter() if as_text else JsonFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).setLevel("WARNING")
