"""The state of the service: loading, ready, draining, closed. Decides what /readyz answers."""

import asyncio
import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from relevance.tasks import Task
from service.auth.keys import open_keys
from service.errors import UnavailableError, UnknownTaskError
from service.feedback.feedback_log import FeedbackLog
from service.lifecycle.bundle_watcher import Watch
from service.lifecycle.loader import Loader
from service.lifecycle.rollout import Rollout
from service.observability.metrics import Metrics, memory_limit_bytes, resident_bytes
from service.observability.tracing import Tracer
from service.scheduling.job import Priority
from service.scheduling.scheduler import Scheduler
from service.scoring.served_model import OpenEngine, ServedModel, open_engine
from service.settings import Settings

log = logging.getLogger(__name__)

TOKENIZING_THREADS = 2  # each call of the tokeniser already uses several cores


class Service:
    """The models of all tasks, and whether they can be used. Created and used on the event loop."""

    def __init__(
        self,
        settings: Settings,
        bundles: Mapping[Task, Path],
        metrics: Metrics,
        open_engine: OpenEngine = open_engine,
    ) -> None:
        self.settings = settings
        self.metrics = metrics
        self.keys = open_keys(settings.api_keys)
        self.draining = False
        self.settled = asyncio.Event()  # loaded, or failed to
        self.tracer = Tracer.open(settings)
        self.feedback = FeedbackLog.open(settings, metrics.feedback)
        self.in_work = 0  # scoring requests without bulk requests
        self.bulk_in_work = 0
        self._bundles = bundles
        self._executors = {
            Priority.INTERACTIVE: ThreadPoolExecutor(TOKENIZING_THREADS, "tokenize"),
            Priority.BULK: ThreadPoolExecutor(1, "tokenize-bulk"),
        }
        self.parser = ThreadPoolExecutor(1, "parse")  # large bodies, one at a time: parsing holds the GIL
        loader = Loader(settings, metrics, self._executors, open_engine)
        self.rollouts = {task: Rollout(task, loader, self._others_wait) for task in bundles}
        self._by_name = {task.value: rollout for task, rollout in self.rollouts.items()}
        self._loading: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start to load the bundles. A second call has no effect."""
        if self._loading is not None:
            return
        self._loading = asyncio.create_task(self._load())
        self._loading.add_done_callback(lambda task: self.settled.set())

    @property
    def failure(self) -> BaseException | None:
        """The error that loading failed with, if it did."""
        done = self._loading is not None and self._loading.done() and not self._loading.cancelled()
        return self._loading.exception() if self._loading is not None and done else None

    @property
    def models(self) -> dict[Task, ServedModel]:
        """The models that answer, by task; a task whose first model is still being loaded has none."""
        return {task: rollout.active for task, rollout in self.rollouts.items() if rollout.active is not None}

    @property
    def obstacle(self) -> str | None:
        """Why the service is not ready, or None where it is."""
        if self.draining:
            return "the service is shutting down"
        if self.failure is not None:
            return f"loading failed: {self.failure}"
        if not self.settled.is_set():
            return "bundles are being loaded and tested"
        faults = {task.value: fault for task, model in self.models.items() if (fault := model.fault)}
        return "; ".join(f"{task}: {fault}" for task, fault in faults.items()) or None

    @property
    def dead(self) -> bool:
        """Whether a model can no longer score."""
        return any(not model.alive for model in self.models.values())

    def model(self, task: str) -> ServedModel:
        """Return the active model of a task. Raises UnknownTaskError, which lists the tasks, or UnavailableError."""
        rollout = self._by_name.get(task)
        if rollout is None:
            raise UnknownTaskError(
                f"task {task[:100]!r} is not served here; expected one of {', '.join(self._by_name)}"
            )
        if rollout.active is None:
            raise UnavailableError(self.obstacle or f"task {task!r} is not loaded")
        return rollout.active

    def rollout(self, task: str) -> Rollout:
        """Return the rollout of a task. Raises UnknownTaskError, or UnavailableError while starting and draining."""
        served = self.model(task).task
        if self.obstacle and (self.draining or not self.settled.is_set()):
            raise UnavailableError(self.obstacle)
        return self.rollouts[served]

    def refresh_metrics(self) -> None:
        """Update the metrics of states (gauges)."""
        self.metrics.ready.set(self.obstacle is None)
        self.metrics.resident.set(resident_bytes())
        self.metrics.memory_limit.set(memory_limit_bytes())
        for rollout in self.rollouts.values():
            for model in rollout.loaded:
                model.refresh()

    async def close(self) -> None:
        """Stop loading and scoring. Requests in progress fail."""
        self.draining = True
        for task in (self._loading, self._watching):
            if task is not None and not task.done():
                task.cancel()
        for rollout in self.rollouts.values():
            await rollout.close()
        for executor in (self.parser, *self._executors.values()):
            executor.shutdown(wait=False, cancel_futures=True)
        if self.tracer is not None:
            await asyncio.to_thread(self.tracer.close)
        if self.feedback is not None:
            await asyncio.to_thread(self.feedback.close)

    async def _load(self) -> None:
        seconds = self.settings.watch_seconds
        watch = Watch(self.rollouts, self._bundles) if seconds else None
        for task, folder in self._bundles.items():
            await self.rollouts[task].start(folder)
        if watch is not None:
            self._watching = asyncio.create_task(watch.run(seconds))

    def _others_wait(self, scheduler: Scheduler) -> bool:
        """Return whether requests wait for other models than that of `scheduler`; called on its inference thread."""
        loaded = [model for rollout in self.rollouts.values() for model in rollout.loaded]
        others = [stage.scheduler for model in loaded for stage in model.stages]
        return any(other.queued_tokens for other in others if other is not scheduler)
