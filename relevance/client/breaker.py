"""When a client does not send: the circuit breaker, and the limit on hedged requests. Knows no network.

Both are used on one event loop, so they need no lock.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from relevance.client.rerank import RerankPolicy
from relevance.client.types import CircuitOpenError, ClientError, RefusedError

HEDGED_SHARE = 0.1  # of the calls; more would double the load of a service that is slow because it is loaded
SAVED_HEDGES = 10.0  # hedges that calls without one save up, at most


class Breaker:
    """Stops calls to a service that failed several times in a row (circuit breaker; Nygard, Release It!, 2007).

    Every ClientError is a failure, except RefusedError: a service that refuses a request is there.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failed = 0
        self._open_until = 0.0
        self._trying = False  # a call tries whether an open circuit may be closed

    @contextmanager
    def call(self, policy: RerankPolicy, request_id: str) -> Iterator[None]:
        """Let one call through and note how it ends. Raises CircuitOpenError instead of entering."""
        is_open = 0 < policy.break_after <= self._failed
        if is_open and (self._trying or self._clock() < self._open_until):
            raise CircuitOpenError(
                f"not sent: the last {self._failed} calls failed, and the next is due within {policy.break_seconds} s",
                request_id,
                attempts=0,
            )
        self._trying = self._trying or is_open
        try:
            yield
        except RefusedError:
            self._failed = 0
            raise
        except ClientError:
            self._failed += 1
            self._open_until = self._clock() + policy.break_seconds
            raise
        else:
            self._failed = 0
        finally:
            if is_open:
                self._trying = False


class HedgeAllowance:
    """Limits hedged requests to HEDGED_SHARE of the calls (Dean and Barroso, The Tail at Scale, 2013)."""

    def __init__(self) -> None:
        self._saved = 1.0

    def count_call(self) -> None:
        """Count a call, which earns a share of a hedge."""
        self._saved = min(SAVED_HEDGES, self._saved + HEDGED_SHARE)

    def take(self) -> bool:
        """Return whether a request may be hedged now, and count it if so."""
        allowed = self._saved >= 1
        self._saved -= allowed
        return allowed
