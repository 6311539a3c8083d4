"""What the service knows of one request, and what it reports when the request has ended. Knows no HTTP."""

import math
import time
from dataclasses import dataclass, field

from relevance.tasks import Task
from service.scheduling.job import Priority


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds that the parts of a scored request took, and when its scores were ready, on `time.monotonic`."""

    queue: float
    tokenize: float
    run: float
    ready_at: float

    @property
    def seconds(self) -> dict[str, float]:
        """The parts by their names in metrics and headers."""
        return {"queue": self.queue, "tokenize": self.tokenize, "run": self.run}


@dataclass(slots=True)
class RequestRecord:
    """What is reported of a request in its log line, its metrics and its trace. Filled while the request is answered.

    A field that stays None is left out.
    """

    key: str | None = None
    task: Task | None = None
    version: str | None = None
    pairs: int | None = None
    tokens: int | None = None
    trace_id: str | None = None
    reason: str | None = None  # why the request was refused, or its answer broke off
    status: int | None = None  # where an answer that had begun broke off: the status to report
    timing: Timing | None = None
    serialize: float | None = None  # seconds from the scores to the first byte of the answer

    def log_fields(self) -> dict[str, str | int]:
        """Return the fields of the log line and of the trace."""
        named = {
            "key": self.key,
            "task": self.task,
            "version": self.version,
            "pairs": self.pairs,
            "tokens": self.tokens,
            "trace_id": self.trace_id,
        }
        return {name: value for name, value in named.items() if value is not None}


@dataclass(frozen=True, slots=True)
class RequestContext:
    """One request: its id, when its first byte came, its deadline and its priority. Times are on `time.monotonic`."""

    request_id: str = ""
    began: float = field(default_factory=time.monotonic)
    deadline: float = math.inf
    priority: Priority = Priority.INTERACTIVE
    record: RequestRecord = field(default_factory=RequestRecord)
