"""The errors of what works outside this process: a server, a model on a device."""

from collections.abc import Mapping
from typing import Any

from relevance.errors import MachineError


class StoppedError(MachineError):
    """It cannot go on. `done` holds what it finished of the call in hand, by index."""

    def __init__(self, message: str, done: Mapping[int, Any] | None = None) -> None:
        super().__init__(message)
        self.done = dict(done or {})


class BudgetSpentError(StoppedError):
    """The budget that the user set does not cover the next request."""
