"""The lines of the feedback log: the service writes them, `relevance data from-logs` reads them. Knows no HTTP.

A line is one JSON object. `ScoresLine` holds the candidates of one query of one request, `FeedbackLine` one thing that
a user or a judge did with one of them. They are joined by the request id. Texts are hashed with a secret key, which
lies beside the log (KEY_FILE): short texts could be guessed from plain hashes. The texts themselves are there only
where the operator asks for them.
"""

import hashlib
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, JsonValue

from relevance.errors import ConfigError
from relevance.storage.strict import StrictModel
from relevance.tasks import Task

SCHEMA = 1
KEY_FILE = ".hash-key"  # hidden: who copies the log's *.jsonl does not copy the key
HIDDEN = ".feedback-"  # how a file begins that a service still writes; its published name has no dot
KEY_BYTES = 32
HASH_BYTES = 16


class Kind(StrEnum):
    """The kinds of lines."""

    SCORES = "scores"
    FEEDBACK = "feedback"


class Team(StrEnum):
    """Whose pick a candidate of an interleaved list is."""

    ACTIVE = "active"
    CHALLENGER = "challenger"


class FeedbackType(StrEnum):
    """What a user or a judge did with a candidate."""

    SHOWN = "shown"
    CLICK = "click"
    JUDGEMENT = "judgement"


class LoggedCandidate(StrictModel):
    """A candidate and its score. `index` is its place in the request, `position` its place in a ranked answer.

    Both count from 0. `position` is None where the answer was not ranked, and where `top_n` left the candidate out.
    """

    index: int = Field(ge=0)
    hash: str
    text: str | None = None
    score: float = Field(ge=0, le=1)
    label: Literal[0, 1]
    position: int | None = Field(None, ge=0)
    team: Team | None = None


class ScoresLine(StrictModel):
    """The scores of one query's candidates. `ranked`: the answer had an order. `challenger`: interleaved with it."""

    kind: Literal[Kind.SCORES]
    schema_: Literal[1] = Field(alias="schema")
    time: AwareDatetime
    request_id: str = Field(min_length=1)
    task: Task
    model: str
    version: str
    challenger: str | None = None
    query_hash: str
    query: str | None = None
    language: str
    ranked: bool
    candidates: tuple[LoggedCandidate, ...] = Field(min_length=1)


class FeedbackLine(StrictModel):
    """One event. The candidate is named by its `index` in the request or by the hash of its text.

    `position` is where the user saw it, from 0. `grade` is that of a judgement, as the judge gave it.
    """

    kind: Literal[Kind.FEEDBACK]
    schema_: Literal[1] = Field(alias="schema")
    time: AwareDatetime
    request_id: str = Field(min_length=1)
    type: FeedbackType
    index: int | None = Field(None, ge=0)
    hash: str | None = None
    query_hash: str | None = None
    position: int | None = Field(None, ge=0)
    grade: JsonValue = None
    annotator: str | None = None


LogLine = Annotated[ScoresLine | FeedbackLine, Field(discriminator="kind")]


def read_key(folder: Path) -> bytes:
    """Return the key of a log's hashes. Raises ConfigError where it is missing or damaged."""
    path = folder / KEY_FILE
    try:
        key = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; expected the key of the log's hashes") from None
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise ConfigError(f"{path}: expected {KEY_BYTES} bytes in hexadecimal, as the service made it with the folder")
    return key


def hash_of(text: str, key: bytes) -> str:
    """Return the hash of a query or a candidate, exactly as it was sent: keyed BLAKE2b, hexadecimal."""
    # A request may hold half a surrogate pair, which plain UTF-8 cannot write.
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=HASH_BYTES, key=key).hexdigest()


def sampled(request_id: str, share: float) -> bool:
    """Return whether a request is in the logged share (0 to 1). Equal ids give equal results in any process.

    Independent of the share of a canary, which hashes the same ids.
    """
    digest = hashlib.blake2b(request_id.encode(), digest_size=8, person=b"feedback log").digest()
    return int.from_bytes(digest, "big") < share * 2**64
