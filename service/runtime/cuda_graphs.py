"""Runs batches of a few fixed shapes from fixed buffers, as CUDA graphs. Knows no bundles and no scheduling.

A CUDA graph is the recorded kernels of one run; a single call starts them all. A graph has one shape, reads and writes
the memory that it was captured with, and belongs to the thread that captured it. During a capture no other thread may
use the GPU. So one thread makes all runs of all models that use graphs. Nothing here needs a GPU: on a CPU the same
code runs from the same buffers, without graphs.

After onnxruntime's page on its CUDA provider ("Using CUDA Graphs") and its `onnxruntime_run_options_config_keys.h`.
"""

import functools
import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from relevance.errors import MachineError
from service.batch_shape import BatchShape
from service.runtime.device_thread import DeviceThread

log = logging.getLogger(__name__)

Feeds = Mapping[str, NDArray[Any]]  # int64 [B, T]; features are float32 [B, F]
Output = NDArray[np.floating]

GRAPH_ID = "gpu_graph_id"  # onnxruntime's run option
NO_GRAPH = -1  # its value for a run without a graph; 0 is reserved by onnxruntime
WARM_UP_RUNS = 3  # onnxruntime captures after two runs of its own; the third replays the graph

DEVICE = DeviceThread("cuda-graphs")
OPENING = threading.RLock()  # held while a session opens or captures: the two must not overlap


@dataclass(frozen=True, slots=True)
class Bucket:
    """The shape of one graph: rows, and the length that they are padded to."""

    rows: int
    width: int


def buckets_of(shape: BatchShape) -> list[Bucket]:
    """Return the buckets of a shape, largest first: 1, 2, 4, ... rows of each of its lengths, up to `free_tokens`.

    Up to that size a run takes as long as its kernels take to start, and padding costs nothing. A larger run takes
    longer than that, and a graph gains nothing.
    """
    most, found = min(shape.free_tokens, shape.max_tokens), []
    for width in shape.lengths:
        rows = 1
        while rows * width <= most:
            found.append(Bucket(rows, width))
            rows *= 2
    return sorted(found, key=lambda bucket: -bucket.rows * bucket.width)  # so that memory is allocated once


def smallest_bucket(buckets: Sequence[Bucket], rows: int, width: int) -> Bucket | None:
    """Return the bucket with the fewest padded tokens that a run fits into, or None."""
    fitting = (bucket for bucket in buckets if bucket.rows >= rows and bucket.width >= width)
    return min(fitting, key=lambda bucket: bucket.rows * bucket.width, default=None)


def pad_to_bucket(array: NDArray[Any], bucket: Bucket, padding: int) -> NDArray[Any]:
    """Pad an array [B, T] to a bucket: columns with `padding`, rows with copies of the last row.

    An array of floats holds features of the pairs, not tokens, and keeps its columns.

    A fully masked row would divide by zero tokens; a copy is as valid as the row itself.
    """
    rows, width = array.shape
    filled = np.full((bucket.rows, bucket.width if _holds_tokens(array) else width), padding, dtype=array.dtype)
    filled[:rows, :width] = array
    filled[rows:] = filled[rows - 1]
    return filled


class GraphRunner:
    """Runs one session for any thread: as a CUDA graph if the batch fits a captured bucket, else without a graph."""

    def __init__(self, session: onnxruntime.InferenceSession, output_name: str, pad_id: int, device: str) -> None:
        """Wrap a session on `cpu` or `cuda` with inputs as `Feeds` and an output [B] or [B, 1]."""
        self.buckets: tuple[Bucket, ...] = ()  # captured, largest first
        self._session, self._output_name, self._device = session, output_name, device
        self._paddings = {node.name: 0 for node in session.get_inputs()} | {"input_ids": pad_id}
        self._buffers: dict[Bucket, _Buffers] = {}

    def run(self, feeds: Feeds) -> Output:
        """Return the output for inputs [B, T] of any shape."""
        return DEVICE.call(lambda: self._run(feeds))

    def capture(self, buckets: Sequence[Bucket], samples: Feeds, tolerance: float) -> None:
        """Capture the buckets, and compare each with a run without a graph over rows of `samples` [B, T].

        Raises MachineError, and uses no bucket, if the two differ by more than `tolerance` or onnxruntime refuses.
        """
        try:  # one at a time, so that other models' runs on this thread wait for one capture at most
            numbered = enumerate(buckets, start=1)
            differences = [DEVICE.call(functools.partial(self._capture, each, n, samples)) for n, each in numbered]
        except Exception as error:  # noqa: BLE001 - onnxruntime's errors have no class of their own in common
            raise MachineError(f"CUDA graphs: onnxruntime could not capture this model: {error}") from None
        worst = float(np.max(differences, initial=0.0))  # NaN if any is NaN
        if not worst <= tolerance:  # also catches NaN
            raise MachineError(f"CUDA graphs: captured runs differ by {worst} from others; expected {tolerance}")
        self.buckets = tuple(buckets)
        log.info("captured CUDA graphs", extra={"buckets": len(buckets), "largest_difference": worst})

    def _run(self, feeds: Feeds) -> Output:
        rows, width = feeds["input_ids"].shape
        bucket = smallest_bucket(self.buckets, rows, width)
        return self._run_without_graph(feeds) if bucket is None else self._run_bucket(bucket, feeds)[:rows]

    def _run_bucket(self, bucket: Bucket, feeds: Feeds) -> Output:
        """Run a batch in a bucket; the output [B] has the bucket's rows."""
        return self._buffers[bucket].run(self._session, self._padded(bucket, feeds))

    def _padded(self, bucket: Bucket, feeds: Feeds) -> Feeds:
        return {name: pad_to_bucket(array, bucket, self._paddings[name]) for name, array in feeds.items()}

    def _run_without_graph(self, feeds: Feeds) -> Output:
        binding = self._session.io_binding()
        for name, array in feeds.items():
            binding.bind_cpu_input(name, array)
        binding.bind_output(self._output_name, "cpu")
        self._session.run_with_iobinding(binding, _option(NO_GRAPH))
        found: Output = binding.copy_outputs_to_cpu()[0]
        return found

    def _capture(self, bucket: Bucket, number: int, samples: Feeds) -> float:
        """Capture one bucket; return the largest difference between its graph and a run without a graph."""
        first, second = (self._padded(bucket, _sample(samples, bucket, shift)) for shift in (0, 1))
        expected = self._run_without_graph(second)
        output = np.zeros((bucket.rows, *expected.shape[1:]), dtype=expected.dtype)
        self._buffers[bucket] = _Buffers(self._session, second, self._output_name, output, self._device, number)
        for _ in range(WARM_UP_RUNS):
            self._run_bucket(bucket, first)
        found = self._run_bucket(bucket, second)  # other inputs than the captured ones
        return float(np.abs(found - expected).max())


class _Buffers:
    """The input and output buffers of one bucket on the device, bound once."""

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        feeds: Feeds,
        output_name: str,
        output: Output,
        device: str,
        number: int,
    ) -> None:
        """Allocate buffers like `feeds` and `output`. `number` identifies the graph, from 1."""
        self._inputs = {name: _allocate(array, device) for name, array in feeds.items()}
        self._output = _allocate(output, device)
        self._option = _option(number)
        self._binding = session.io_binding()
        for name, value in self._inputs.items():
            self._binding.bind_ortvalue_input(name, value)
        self._binding.bind_ortvalue_output(output_name, self._output)

    def run(self, session: onnxruntime.InferenceSession, feeds: Feeds) -> Output:
        """Copy the inputs into the buffers, run, and return a copy of the output."""
        for name, array in feeds.items():
            self._inputs[name].update_inplace(array)
        self._binding.synchronize_inputs()
        session.run_with_iobinding(self._binding, self._option)
        self._binding.synchronize_outputs()
        return np.array(self._output.numpy())


def _allocate(array: NDArray[np.generic], device: str) -> onnxruntime.OrtValue:
    return onnxruntime.OrtValue.ortvalue_from_shape_and_type(list(array.shape), array.dtype.type, device, 0)


def _option(graph: int) -> onnxruntime.RunOptions:
    options = onnxruntime.RunOptions()
    options.add_run_config_entry(GRAPH_ID, str(graph))
    return options


def _sample(samples: Feeds, bucket: Bucket, shift: int) -> Feeds:
    """Return the bucket's rows of samples, cyclically from row `shift`, cut to its width."""
    count = len(samples["input_ids"])
    rows = (np.arange(bucket.rows) + shift) % count
    cut = {name: bucket.width if _holds_tokens(array) else None for name, array in samples.items()}
    return {name: array[rows, : cut[name]] for name, array in samples.items()}


def _holds_tokens(array: NDArray[Any]) -> bool:
    return np.issubdtype(array.dtype, np.integer)
