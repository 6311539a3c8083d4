"""The life of the service: loading, ready, draining, closed. What /readyz tells is decided here."""

import asyncio
import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from relevance.tasks import Task
from service.errors import UnavailableError, UnknownTaskError
from service.models import ServedModel
from service.settings import Settings
from service.telemetry import Metrics

log = logging.getLogger(__name__)

TOKENIZING_THREADS = 2  # each call of the tokenizer already spreads over the cores


class Service:
    """The served models and whether they can be used. Made and used on the event loop."""

    def __init__(self, settings: Settings, bundles: Mapping[Task, Path], metrics: Metrics) -> None:
        self.settings = settings
        self.metrics = metrics
        self.models: dict[Task, ServedModel] = {}
        self.draining = False
        self.settled = asyncio.Event()  # loaded, or failed to
        self._bundles = bundles
        self._executor = ThreadPoolExecutor(TOKENIZING_THREADS, "tokenize")
        self._loading: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to load the bundles; /healthz answers meanwhile."""
        self._loading = asyncio.create_task(self._load())
        self._loading.add_done_callback(lambda task: self.settled.set())

    @property
    def failure(self) -> BaseException | None:
        """What made loading fail, if it did."""
        done = self._loading is not None and self._loading.done() and not self._loading.cancelled()
        return self._loading.exception() if self._loading is not None and done else None

    @property
    def obstacle(self) -> str | None:
        """Why the service is not ready, or None where it is."""
        if self.draining:
            return "the service is shutting down"
        if self.failure is not None:
            return f"loading failed: {self.failure}"
        if not self.settled.is_set():
            return "bundles are being loaded and tested"
        dead = [task.value for task, model in self.models.items() if not model.scheduler.alive]
        return f"the inference thread of {', '.join(dead)} has ended" if dead else None

    def model(self, task: str) -> ServedModel:
        """Return the model of a task. Raises UnknownTaskError naming what is served, or UnavailableError."""
        known = {each.value: each for each in self._bundles}
        if task not in known:
            raise UnknownTaskError(f"task {task[:100]!r} is not served here; expected one of {', '.join(known)}")
        model = self.models.get(known[task])
        if model is None:
            raise UnavailableError(self.obstacle or f"task {task!r} is not loaded")
        return model

    async def close(self) -> None:
        """Stop loading and scoring; whatever still waits fails."""
        self.draining = True
        if self._loading is not None and not self._loading.done():
            self._loading.cancel()
        for model in self.models.values():
            await model.scheduler.close()
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def _load(self) -> None:
        for task, folder in self._bundles.items():
            self.models[task] = await asyncio.to_thread(
                ServedModel.load, task, folder, self.settings, self.metrics, self._executor
            )
