"""Watches the folders that the service was started with, and switches to a bundle that replaces one of them."""

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path

from relevance.model.bundle import DATA_FILE, GOLDEN_FILE, MANIFEST_FILE, MODEL_FILE, stated_version
from relevance.model.card import TOKENIZER_FILE
from relevance.model.cascade import STAGES
from relevance.model.prior import PRIOR_FILE
from relevance.tasks import Task
from service.errors import BundleRefusedError, ConflictError, UnavailableError
from service.lifecycle.rollout import Rollout

log = logging.getLogger(__name__)

FILES = (MANIFEST_FILE, MODEL_FILE, TOKENIZER_FILE, GOLDEN_FILE)
FURTHER_FILES = (DATA_FILE, PRIOR_FILE)  # of some bundles
CASCADE_FILES = (MANIFEST_FILE, GOLDEN_FILE, *(f"{stage}/{name}" for stage in STAGES for name in FILES))
CASCADE_FURTHER = tuple(f"{stage}/{name}" for stage in STAGES for name in FURTHER_FILES)

Mark = tuple[Path, tuple[tuple[int, int, int], ...]]


def mark_of(folder: Path) -> Mark | None:
    """Return a value that changes when a folder's bundle is replaced; None where the bundle is not complete.

    It is the resolved path, and inode, time and size of each file: a file that is written late changes it again.
    """
    try:
        real = folder.resolve(strict=True)
        cascade = (real / STAGES[0]).is_dir()
        found = [(real / name).stat() for name in (CASCADE_FILES if cascade else FILES)]
        further = (real / name for name in (CASCADE_FURTHER if cascade else FURTHER_FILES))
        found += [path.stat() for path in further if path.exists()]
    except (OSError, RuntimeError):  # RuntimeError: a loop of symbolic links
        return None
    return real, tuple((each.st_ino, each.st_mtime_ns, each.st_size) for each in found)


class Watch:
    """Checks the folders. Keeps what it tried last, so that a bad bundle is refused once and not at every check."""

    def __init__(self, rollouts: Mapping[Task, Rollout], folders: Mapping[Task, Path]) -> None:
        """Start; what is in the folders now is what is served."""
        self._rollouts, self._folders = rollouts, folders
        self._tried = {task: mark_of(folder) for task, folder in folders.items()}
        self._missing: set[Task] = set()

    async def run(self, every_seconds: float) -> None:
        """Check the folders again and again, until cancelled."""
        while True:
            await asyncio.sleep(every_seconds)
            for task in self._folders:
                await self._check(task)

    async def _check(self, task: Task) -> None:
        rollout, mark = self._rollouts[task], await asyncio.to_thread(mark_of, self._folders[task])
        if mark is None:
            self._warn_missing(task)
            return
        self._missing.discard(task)
        if mark == self._tried[task]:
            return
        version = await asyncio.to_thread(stated_version, mark[0])
        active = rollout.active
        try:
            if active is None or active.manifest.version != version:
                await rollout.switch(mark[0])
        except BundleRefusedError:
            pass  # logged and counted where it was refused
        except (ConflictError, UnavailableError) as error:
            log.info("the watched bundle waits for its turn", extra={"task": task, "detail": str(error)})
            return  # tried again at the next check
        self._tried[task] = mark

    def _warn_missing(self, task: Task) -> None:
        """Log once that a folder is not a complete bundle, for example a broken link."""
        if task not in self._missing:
            self._missing.add(task)
            log.warning(
                "the watched folder holds no whole bundle: what is loaded serves on",
                extra={"task": task, "bundle": str(self._folders[task])},
            )
