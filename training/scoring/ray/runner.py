"""Scores the shards of a file on Ray: actors of Ray Data open the bundle, this process keeps what they return.

A row of the data set is one shard. An actor reads the shard's rows from the staged ones and returns its scores, which
this process saves under the shard's index. So a shard that Ray runs twice, after an actor died, still counts once, and
a run that ends goes on at the first shard without scores. Ray is imported when a run begins.
"""

import contextlib
import logging
import socket
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from relevance import errors
from relevance.errors import BundleError, MachineError, RelevanceError
from relevance.model.bundle import Bundle
from relevance.scorer import Scorer
from relevance.storage.files import writing
from training.scoring.options import ScoreOptions
from training.scoring.ray.start import check_address, first_line, set_patience, started
from training.scoring.shards import ModelId, score_rows
from training.scoring.staged import ShardRows, StagedRows
from training.scoring.work import SHARD

log = logging.getLogger(__name__)

MOST_TASKS = 4096  # tasks that Ray keeps account of; above it, a task has several shards
STALLED_SECONDS = 600.0  # without a finished shard: nodes are gone and no others come
MOST_ATTEMPTS = 4  # of a shard, which each end the process of its actor


@dataclass(frozen=True)
class RayRunner:
    """Scores shards on `actors` actors. The bundle and the work folder have the same paths on every node."""

    bundle: Bundle
    options: ScoreOptions

    @classmethod
    def open(cls, folder: Path, options: ScoreOptions) -> Self:
        """Open the bundle without a session, to know its task and digest. Raises BundleError as `Bundle.open` does."""
        if options.ray == "local":
            set_patience()
        import ray.data  # noqa: F401 - a missing package shows before the file is read

        check_address(options.ray or "local")
        return cls(Bundle.open(folder.absolute()), options)

    @property
    def model(self) -> ModelId:
        """What scores."""
        return ModelId.of(self.bundle.manifest)

    @property
    def device(self) -> str:
        """Where the model runs."""
        return "cuda" if self.options.actor_gpus else "cpu"

    def run(self, shards: Iterable[int], staged: StagedRows) -> Iterator[tuple[int, NDArray[np.void]]]:
        """Yield index and scores of every shard, in the order in which actors finish them.

        Raises the error of an actor (BundleError, MachineError), and MachineError where Ray fails.
        """
        waiting = list(shards)
        if not waiting:
            return
        options = self.options
        opening = {"threads": options.threads, "device": self.device, "max_batch_tokens": options.max_batch_tokens}
        task = _Task(str(self.bundle.folder), self.model.digest, str(staged.path.absolute()), opening)
        with started(options.ray or "local", options.actors * options.threads), _named_errors():
            for index, found, error in _results(task, waiting, options):
                if error:
                    raise _error(error)
                yield index, np.frombuffer(found, dtype=SHARD)


@dataclass(frozen=True)
class _Task:
    """What every actor does: which bundle, by its digest, how it is opened, and the file of the staged rows."""

    bundle: str
    digest: str
    rows: str
    opening: Mapping[str, Any]


class _ShardActor:
    """Scores one shard a call. Errors of ours go back as texts, so that Ray neither retries nor wraps them."""

    def __init__(self, task: _Task) -> None:
        self._staged = StagedRows(Path(task.rows))
        self._error = ""
        try:
            self._scorer = Scorer.open(task.bundle, **task.opening)
            if self._scorer.manifest.digest != task.digest:
                raise BundleError(f"bundle {task.bundle}: differs from the one on the node of the command")
        except RelevanceError as error:
            self._error = _text(error)

    def __call__(self, batch: Mapping[str, NDArray[Any]]) -> dict[str, list[Any]]:
        index, found, error = int(batch["shard"][0]), b"", self._error
        if not error:
            try:
                rows = self._staged.shard(index)
                with attempt(self._staged.path.with_name(f"attempts-{index:06d}"), rows):
                    tokens = self._scorer.tokenize(rows.queries, rows.candidates, rows.languages)
                    found = score_rows(self._scorer, rows, tokens).tobytes()
            except RelevanceError as problem:
                error = _text(problem)
        return {"shard": [index], "scores": [found], "error": [error]}


@contextlib.contextmanager
def attempt(file: Path, rows: ShardRows) -> Iterator[None]:
    """Count the attempts at a shard in a file beside its rows, which stays where the process ends within the block.

    Raises MachineError at once where as many attempts as may be have ended their processes.
    """
    ended = file.stat().st_size if file.exists() else 0
    if ended >= MOST_ATTEMPTS:
        raise MachineError(
            f"shard {rows.index}: {ended} actors ended, each while it scored rows {rows.places[0] + 1} to "
            f"{rows.places[-1] + 1} of the input; expected an actor with enough memory, or rows that do not end it"
        )
    with writing(file), file.open("ab") as stream:
        stream.write(b"x")
    yield
    file.unlink(missing_ok=True)


def _text(error: RelevanceError) -> str:
    return f"{type(error).__name__}: {error} (node {socket.gethostname()})"


def _error(text: str) -> RelevanceError:
    """Return the error that an actor sent as text."""
    name, _, message = text.partition(": ")
    kind: type[RelevanceError] = getattr(errors, name)
    return kind(message)


def _results(task: _Task, shards: Iterable[int], options: ScoreOptions) -> Iterator[tuple[int, bytes, str]]:
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    context.execution_no_progress_timeout_s = STALLED_SECONDS
    items = [{"shard": index} for index in shards]
    found = ray.data.from_items(items, override_num_blocks=min(len(items), MOST_TASKS)).map_batches(
        _ShardActor,
        fn_constructor_args=[task],
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=options.actors),
        num_cpus=options.threads,
        num_gpus=options.actor_gpus,
    )
    for batch in found.iter_batches(batch_size=None, batch_format="numpy"):
        yield from zip(batch["shard"].tolist(), batch["scores"], batch["error"], strict=True)


@contextlib.contextmanager
def _named_errors() -> Iterator[None]:
    """Turn Ray's errors into MachineError."""
    from ray.data.exceptions import ExecutionTimeoutError, SystemException
    from ray.exceptions import RayError

    try:
        yield
    except (RayError, ExecutionTimeoutError, SystemException) as error:
        raise MachineError(f"Ray: {type(error).__name__}: {first_line(error)}") from error
