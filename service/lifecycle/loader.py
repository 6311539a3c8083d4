"""Loads a bundle: hashes, golden self-test and warm-up. Runs in a thread, not on the event loop."""

import logging
import time
from dataclasses import dataclass
from pathlib import Path

from relevance.errors import BundleError
from relevance.model.bundle import Bundle
from relevance.tasks import Task
from service.observability.metrics import Metrics
from service.runtime.session import Engine
from service.scoring.served_model import OpenEngine, ServedModel
from service.scoring.stage import Executors
from service.settings import Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Loader:
    """Loads the bundles of one process."""

    settings: Settings
    metrics: Metrics
    executors: Executors
    open_engine: OpenEngine

    def load(self, task: Task, folder: Path, beside: ServedModel | None = None) -> ServedModel:
        """Open a bundle, load its model and run its self-test. Takes seconds; must not run on the event loop.

        The tokeniser of the model `beside` is used again if it is the same. Raises BundleError, or MachineError for
        the device.
        """
        started = time.perf_counter()
        bundle = Bundle.open(folder)
        if bundle.manifest.task is not task:
            raise BundleError(f"bundle {folder}: its task is {bundle.manifest.task.value!r}, expected {task.value!r}")
        engines: list[Engine] = []
        for stage in bundle.stages:
            for other in [*(each.engine for each in (beside.stages if beside is not None else ())), *engines]:
                stage.borrow_tokenizer(other.bundle.manifest, other.tokenizer)
            engines.append(self.open_engine(stage, self.settings))
        model = ServedModel(bundle, engines, self.settings, self.metrics, self.executors)
        log.info(
            "bundle loaded",
            extra={
                "task": task.value,
                "model": bundle.manifest.name,
                "version": bundle.manifest.version,
                "device": model.device,
                "runtime": model.runtime,
                "golden_pairs": len(bundle.golden),
                "golden_difference": max(engine.golden_difference for engine in engines),
                "tokens_per_second": round(model.tokens_per_second),
                "duration_ms": round(1000 * (time.perf_counter() - started)),
            },
        )
        return model
