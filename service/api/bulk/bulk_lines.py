"""One line of a bulk request, and the line that answers it. Knows JSON; knows no model and no HTTP.

The id comes back as it was sent: a number keeps its digits, whatever its size (`1.0`, `1e400`).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from pydantic import ValidationError

from relevance.errors import RelevanceError
from relevance.languages import normalize_language
from relevance.tasks import Pair
from service.api import schemas
from service.api.bulk.line_reader import LINE_BYTES, Line
from service.api.problems import BUG, KINDS
from service.errors import InvalidRequestError
from service.scoring.admission import FieldNames, check_pairs
from service.settings import Settings

NAMES = FieldNames("lines", "query", "candidate")
FIELDS = ("query", "candidate", "language", "id")
KEY_CHARS, DETAIL_CHARS = 100, 300  # limits of a key that an error repeats, and of the whole error


@dataclass(frozen=True, slots=True)
class _Number:
    """A JSON number as it was written."""

    text: str


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_decoder = json.JSONDecoder(parse_int=_Number, parse_float=_Number, parse_constant=_refuse_constant)


@dataclass(slots=True)
class Answer:
    """The answer for one line: `identity` is the JSON of its id, if it has one; `fields` are the other keys."""

    number: int
    identity: str | None
    fields: dict[str, Any]

    def fail(self, error: RelevanceError) -> None:
        """Answer with an error."""
        kind = KINDS.get(type(error), BUG)
        detail = str(error) if kind is not BUG else kind.title
        self.fields = {"status": kind.status, "reason": kind.reason, "detail": detail[:DETAIL_CHARS]}

    def encoded(self) -> bytes:
        """Return the answer line, its end included."""
        identity = "" if self.identity is None else f',"id":{self.identity}'
        rest = json.dumps(self.fields, separators=(",", ":"))[1:]
        return f'{{"line":{self.number}{identity},{rest}\n'.encode()


def read(line: Line, settings: Settings) -> tuple[Answer, Pair | None]:
    """Return the answer of a line, to be filled in, and its pair. There is no pair where the answer is an error."""
    answer = Answer(line.number, None, {})
    try:
        row = _parsed(line)
        if "id" in row:
            answer.identity = _identity(row.pop("id"))
        pair = _pair(row)
        check_pairs([pair], settings, NAMES)
    except RelevanceError as error:
        answer.fail(error)
        return answer, None
    return answer, pair


def _parsed(line: Line) -> dict[str, Any]:
    """Return the object of a line. Raises InvalidRequestError."""
    if line.too_long:
        raise InvalidRequestError(f"the line is too long: expected at most {LINE_BYTES} bytes")
    try:
        row = _decoder.decode(line.content.decode())
    except UnicodeDecodeError as error:
        raise InvalidRequestError(f"Invalid JSON: not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise InvalidRequestError(f"Invalid JSON: {error.msg} at character {error.pos}") from None
    except ValueError as error:
        raise InvalidRequestError(f"Invalid JSON: {error}") from None
    except RecursionError:
        raise InvalidRequestError("Invalid JSON: nested too deeply") from None
    if not isinstance(row, dict):
        raise InvalidRequestError('expected a JSON object, as {"query": ..., "candidate": ...}')
    return row


def _identity(value: object) -> str:
    """Return the JSON of an id. Raises InvalidRequestError for an object or an array."""
    if isinstance(value, _Number):
        return value.text
    if isinstance(value, dict | list):
        raise InvalidRequestError("id: expected a string, a number, true, false or null")
    return json.dumps(value)


def _pair(row: Mapping[str, Any]) -> Pair:
    """Return the pair of a line. Raises InvalidRequestError, which names one unknown key and counts the others."""
    unknown = [key for key in row if key not in FIELDS]
    if unknown:
        more = f" (and {len(unknown) - 1} other unknown keys)" if len(unknown) > 1 else ""
        raise InvalidRequestError(f"{unknown[0][:KEY_CHARS]}: unknown key{more}; expected {', '.join(FIELDS)}")
    try:
        found = schemas.PairIn.model_validate(row)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        raise InvalidRequestError(f"{fault['loc'][0]}: {fault['msg']}") from None
    return Pair(found.query, found.candidate, normalize_language(found.language))
