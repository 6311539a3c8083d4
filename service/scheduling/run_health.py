"""Whether the runs of a model still succeed, so that a broken session fails the health check. Knows no jobs."""

import logging
import threading
from collections.abc import Callable, Sequence

from relevance.text.tokenization import TokenizedPair
from service.scheduling.job import Logits

log = logging.getLogger(__name__)

Run = Callable[[Sequence[TokenizedPair], int], Logits]  # of pairs, padded to a width


class RunHealth:
    """Runs a model and counts consecutive failures. Called on several threads.

    After `max_failed_runs` consecutive failures, it runs pairs that were scored before once more. If they succeed, the
    pairs were at fault and the count restarts; otherwise the model is `broken` until a run succeeds.
    """

    def __init__(self, run: Run, max_failed_runs: int) -> None:
        self.failed, self.broken = 0, False
        self._run, self._max_failed_runs = run, max_failed_runs
        self._last_scored: tuple[Sequence[TokenizedPair], int] | None = None
        self._lock = threading.Lock()

    def run(self, pairs: Sequence[TokenizedPair], width: int) -> Logits:
        """Return the logits of a run. Raises any error of the model."""
        try:
            logits = self._run(pairs, width)
        except Exception:
            self._count_failure()
            raise
        with self._lock:
            self.failed, self.broken, self._last_scored = 0, False, (pairs, width)
        return logits

    def _count_failure(self) -> None:
        with self._lock:
            self.failed += 1
            if self.broken or self.failed < self._max_failed_runs:
                return
        if self._last_scored is not None and self._succeeds(*self._last_scored):
            with self._lock:
                self.failed = 0
            return
        with self._lock:
            self.broken = True
        log.error("model broken: its last runs all failed", extra={"failed_runs": self.failed})

    def _succeeds(self, pairs: Sequence[TokenizedPair], width: int) -> bool:
        try:
            self._run(pairs, width)
        except Exception:
            log.exception("a model run failed for pairs that it had scored before")
            return False
        return True
