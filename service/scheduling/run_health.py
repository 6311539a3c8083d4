"""Whether the runs of a model still succeed: a session that fails from now on must not look healthy."""

import logging
import threading
from collections.abc import Callable, Sequence

from relevance.tokenization import TokenizedPair
from service.scheduling.batching import Logits

log = logging.getLogger(__name__)

Run = Callable[[Sequence[TokenizedPair], int], Logits]  # pairs and the length that they are padded to


class RunHealth:
    """Makes the runs of a model and counts how many have failed in a row; called on several threads.

    After `max_failed_runs` of them, pairs that were scored before are run once more. Where these succeed, it was the
    pairs that failed, and counting begins anew; else the model is `broken` until a run succeeds.
    """

    def __init__(self, run: Run, max_failed_runs: int) -> None:
        self.failed, self.broken = 0, False
        self._make_run, self._most = run, max_failed_runs
        self._scored: tuple[Sequence[TokenizedPair], int] | None = None
        self._counting = threading.Lock()

    def run(self, pairs: Sequence[TokenizedPair], width: int) -> Logits:
        """Return the logits of a run. Raises whatever the model raises."""
        try:
            logits = self._make_run(pairs, width)
        except Exception:
            self._count_failure()
            raise
        with self._counting:
            self.failed, self.broken, self._scored = 0, False, (pairs, width)
        return logits

    def _count_failure(self) -> None:
        with self._counting:
            self.failed += 1
            if self.broken or self.failed < self._most:
                return
        if self._scored is not None and self._succeeds(*self._scored):
            with self._counting:
                self.failed = 0
            return
        with self._counting:
            self.broken = True
        log.error("a model can no longer score: its last runs all failed", extra={"failed_runs": self.failed})

    def _succeeds(self, pairs: Sequence[TokenizedPair], width: int) -> bool:
        try:
            self._make_run(pairs, width)
        except Exception:
            log.exception("a model run with pairs that were scored before failed too")
            return False
        return True
