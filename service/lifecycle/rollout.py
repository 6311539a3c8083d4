"""The models of one task: the active one, the previous one to roll back to, and the challenger, a model on trial.

A new bundle is loaded and tested while the active model serves; only then do roles change, in one step on the event
loop. A request keeps the model that it began with. A model without a role is closed when its last request is done.
"""

import asyncio
import functools
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from relevance.errors import RelevanceError
from relevance.model.bundle import stated_version
from relevance.tasks import Pair, Task
from service.errors import BundleRefusedError, ConflictError, UnavailableError
from service.lifecycle.challenger import Challenger, Mode, in_share
from service.lifecycle.loader import Loader
from service.lifecycle.shadow import Shadow
from service.scheduling.scheduler import Scheduler
from service.scoring.model_metrics import Role
from service.scoring.served_model import Scored, ServedModel

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A bundle that was refused, and why."""

    bundle: Path
    detail: str
    at: datetime


class Rollout:
    """Changes the models of one task, one change at a time. Used on the event loop."""

    def __init__(self, task: Task, loader: Loader, others_wait: Callable[[Scheduler], bool]) -> None:
        """Start without a model; `others_wait` says whether requests wait for another scheduler than the given one."""
        self.active: ServedModel | None = None  # the model that answers; None until the first one is loaded
        self.previous: ServedModel | None = None
        self.challenger: Challenger | None = None
        self.change: str | None = None  # the change in progress
        self.refusal: Refusal | None = None  # the last one
        self._task, self._loader, self._others_wait = task, loader, others_wait
        self._metrics = loader.metrics.changes
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def loaded(self) -> list[ServedModel]:
        """All models that have a role; may be read on any thread."""
        challenger = self.challenger  # read once: the event loop may change it meanwhile
        on_trial = challenger.model if challenger is not None else None
        return [model for model in (self.active, self.previous, on_trial) if model is not None]

    @property
    def canary(self) -> ServedModel | None:
        """The challenger, if it answers callers."""
        return self.challenger.model if self.challenger and self.challenger.mode is Mode.CANARY else None

    @property
    def versions(self) -> dict[str, ServedModel]:
        """The models that answer callers, by their versions."""
        return {model.manifest.version: model for model in (self.canary, self.active) if model is not None}

    def answering(self, request_id: str) -> ServedModel | None:
        """Return the model that answers a request: the canary, if it can score and the request is in its share."""
        canary = self.canary
        if canary is None or self.challenger is None or not canary.alive:
            return self.active
        return canary if in_share(request_id, self.challenger.share) else self.active

    def answered(self, request_id: str, model: ServedModel, pairs: Sequence[Pair], scored: Scored) -> None:
        """Offer an answered request to the shadow, if there is one and the request is in its share."""
        challenger = self.challenger
        if challenger and challenger.shadow and model is self.active and in_share(request_id, challenger.share):
            challenger.shadow.offer(pairs, scored)

    async def start(self, folder: Path) -> None:
        """Load the first model. Raises BundleError or MachineError."""
        model = await self._load(folder.resolve())  # a symbolic link may change while its files are read
        self.active = model
        model.metrics.set_role(Role.ACTIVE)

    async def switch(self, folder: Path) -> None:
        """Serve a bundle from now on. Raises BundleRefusedError, after which nothing has changed, and ConflictError."""
        with self._changing(f"switch to {folder}"):
            self._activate(await self._tested(folder), "switched")

    async def try_out(self, folder: Path, mode: Mode, share: float) -> None:
        """Make a bundle the challenger. The present challenger is not loaded again. Raises as `switch` does."""
        with self._changing(f"{mode} of {folder}"):
            old, version = self.challenger, await asyncio.to_thread(stated_version, folder)
            if old is not None and old.model.manifest.version == version and old.model.alive:
                model = old.model
                await _end(old)
            else:
                model = await self._tested(folder)
                await self._drop_challenger()
            model.metrics.set_role(Role.CHALLENGER, answers=mode is Mode.CANARY)
            shadow = Shadow(model, self._metrics) if mode is Mode.SHADOW else None
            self.challenger = Challenger(model, mode, share, shadow)
            log.info("challenger on trial", extra=self._names(model) | {"mode": mode, "share": share})

    def roll_back(self) -> None:
        """Swap the active and the previous model. Raises ConflictError where there is no previous one."""
        with self._changing("roll-back"):
            if self.previous is None or not self.previous.alive:
                raise ConflictError(f"{self._task}: no previous model is loaded; expected one switch at least")
            self._activate(self.previous, "rolled_back")

    async def promote(self) -> None:
        """Make the challenger the active model. Raises ConflictError where there is none."""
        with self._changing("promotion"):
            if self.challenger is None or not self.challenger.model.alive:
                raise ConflictError(f"{self._task}: no challenger is loaded; expected a shadow or a canary")
            challenger, self.challenger = self.challenger, None
            await _end(challenger)
            self._activate(challenger.model, "promoted")

    async def drop(self) -> None:
        """Unload the challenger. Raises ConflictError where there is none."""
        with self._changing("unloading of the challenger"):
            if self.challenger is None:
                raise ConflictError(f"{self._task}: no challenger is loaded; expected a shadow or a canary")
            await self._drop_challenger()

    async def close(self) -> None:
        """Close all models at once. Requests in progress fail."""
        if self.challenger:
            await _end(self.challenger)
        for closing in self._closing:
            closing.cancel()
        for model in self.loaded:
            await model.close()

    @contextmanager
    def _changing(self, what: str) -> Iterator[None]:
        if self.active is None:
            raise UnavailableError(f"{self._task}: the first bundle is still being loaded")
        if self.change is not None:
            raise ConflictError(f"{self._task}: another change is under way ({self.change}); expected one at a time")
        self.change = what
        try:
            yield
        finally:
            self.change = None

    async def _load(self, folder: Path) -> ServedModel:
        model = await asyncio.to_thread(self._loader.load, self._task, folder, self.active)
        for stage in model.stages:
            stage.scheduler.yield_while(functools.partial(self._others_wait, stage.scheduler))
        return model

    async def _tested(self, folder: Path) -> ServedModel:
        try:
            return await self._load(folder)
        except Exception as error:  # whatever is wrong with a bundle, the loaded models still serve
            detail = str(error) if isinstance(error, RelevanceError) else f"bundle {folder}: {type(error).__name__}"
            fault = None if isinstance(error, RelevanceError) else error
            extra = {"task": self._task, "bundle": str(folder), "detail": detail}
            log.error("bundle refused: what is loaded serves on", extra=extra, exc_info=fault)
            self.refusal = Refusal(folder, detail, datetime.now(UTC))
            self._metrics.changes.labels(self._task, "refused").inc()
            raise BundleRefusedError(detail) from error

    def _activate(self, model: ServedModel, result: str) -> None:
        """Assign the roles. Nothing is awaited, so that each request sees all roles before or all after the change."""
        old, oldest = self.active, self.previous
        model.metrics.set_role(None)  # first, since models of the same bundle share their series
        if oldest is not None and oldest is not model:
            self._retire(oldest)
        self.previous = None
        if old is not None and self._loader.settings.keep_previous:
            self.previous = old
            old.metrics.set_role(Role.PREVIOUS)
        elif old is not None:
            self._retire(old)
        self.active = model
        model.metrics.set_role(Role.ACTIVE)
        self._metrics.changes.labels(self._task, result).inc()
        log.info(f"model {result.replace('_', ' ')}", extra=self._names(model))

    async def _drop_challenger(self) -> None:
        if self.challenger is None:
            return
        challenger, self.challenger = self.challenger, None
        await _end(challenger)
        self._retire(challenger.model, answers=challenger.shadow is None)
        log.info("challenger dropped", extra=self._names(challenger.model))

    def _retire(self, model: ServedModel, answers: bool = True) -> None:
        model.metrics.set_role(None, answers)
        closing = asyncio.create_task(self._close(model))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    async def _close(self, model: ServedModel) -> None:
        await model.leases.wait_until_free(self._loader.settings.bulk_retired_seconds)
        model.refresh()  # its last scores go into the metrics
        await model.close()
        for stage in model.stages:
            stage.scheduler.yield_while(_nobody_waits)  # the cycle of references would keep the session's memory
        log.info("model closed", extra=self._names(model))

    def _names(self, model: ServedModel) -> dict[str, str]:
        return {"task": self._task, "model": model.manifest.name, "version": model.manifest.version}


async def _end(challenger: Challenger) -> None:
    """Stop the shadow, if there is one. Its counts go into the metrics before the model may answer callers."""
    if challenger.shadow:
        await challenger.shadow.end()
        challenger.model.refresh()


def _nobody_waits() -> bool:
    return False
