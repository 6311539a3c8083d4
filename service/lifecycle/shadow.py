"""A challenger that scores requests again after the active model, and is compared with it. No caller waits for it.

Its pairs are bulk work: they run when no interactive request waits for any model. Requests over WAITING_REQUESTS are
dropped and counted.
"""

import asyncio
import contextlib
import logging
from collections.abc import Sequence

import numpy as np

from relevance.tasks import Pair
from service.observability.change_metrics import ChangeMetrics
from service.scheduling.job import Priority
from service.scoring.request_context import RequestContext
from service.scoring.served_model import Scored, ServedModel

log = logging.getLogger(__name__)

WAITING_REQUESTS = 32


class Shadow:
    """Scores requests again with a challenger, one after another. Used on the event loop."""

    def __init__(self, model: ServedModel, metrics: ChangeMetrics) -> None:
        self._model, self._metrics, self._task = model, metrics, model.task
        self._waiting: asyncio.Queue[tuple[Sequence[Pair], Scored]] = asyncio.Queue(WAITING_REQUESTS)
        self._failed = False
        self._working = asyncio.create_task(self._work())

    def offer(self, pairs: Sequence[Pair], scored: Scored) -> None:
        """Add a request that the active model has answered, if the queue has room."""
        try:
            self._waiting.put_nowait((pairs, scored))
        except asyncio.QueueFull:
            self._metrics.dropped.labels(self._task).inc()

    async def end(self) -> None:
        """Stop scoring; queued requests and the one in progress are dropped."""
        self._working.cancel()
        await asyncio.wait({self._working})
        self._metrics.dropped.labels(self._task).inc(self._waiting.qsize())

    async def _work(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):  # the task would keep the error, its frames and so the model
            while True:
                await self._score(*await self._waiting.get())

    async def _score(self, pairs: Sequence[Pair], scored: Scored) -> None:
        try:
            found = await self._model.score(pairs, RequestContext(priority=Priority.BULK))
        except asyncio.CancelledError:
            self._metrics.dropped.labels(self._task).inc()
            raise
        except Exception as error:  # the next request may succeed
            self._metrics.dropped.labels(self._task).inc()
            if not self._failed:  # a broken challenger fails on everything
                log.warning("the challenger failed on a shadowed request", extra={"task": self._task}, exc_info=error)
            self._failed = True
            return
        await asyncio.to_thread(self._compare, scored, found)

    def _compare(self, scored: Scored, found: Scored) -> None:
        metrics, task = self._metrics, self._task
        metrics.pairs.labels(task).inc(len(found.labels))
        metrics.disagreements.labels(task).inc(int(np.sum(np.array(scored.labels) != np.array(found.labels))))
        metrics.run_seconds.labels(task).observe(found.timing.run)
        shift = metrics.shift.labels(task)
        for difference in np.abs(scored.scores - found.scores).tolist():
            shift.observe(difference)
