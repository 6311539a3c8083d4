"""Runs of a few fixed shapes out of buffers that stay where they are, which is what a CUDA graph needs.

A CUDA graph is the kernels of one run, started again by a single call. It is of one shape, reads and writes the memory
that it was captured with, and belongs to the thread that captured it; while it is captured, no other thread may use the
GPU. Hence all runs of all models that capture are made on one thread. Nothing here needs a GPU: on the CPU the same
code runs from the same buffers, only that nothing is captured.

After onnxruntime's page on its CUDA provider ("Using CUDA Graphs") and its `onnxruntime_run_options_config_keys.h`.
"""

import functools
import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from relevance.errors import MachineError
from service.batch_shape import BatchShape
from service.runtime.device_thread import DeviceThread

log = logging.getLogger(__name__)

Feeds = Mapping[str, NDArray[np.int64]]
Output = NDArray[np.floating]

GRAPH_ID = "gpu_graph_id"  # onnxruntime's run option
UNCAPTURED = -1  # its value for a run that neither captures nor repeats; 0 is kept for onnxruntime itself
WARM_RUNS = 3  # onnxruntime makes two runs of its own before it captures; one more repeats what it captured

DEVICE = DeviceThread("cuda-graphs")
OPENING = threading.RLock()  # held while a session is opened, or captures: neither bears the other


@dataclass(frozen=True, slots=True)
class Bucket:
    """A shape that is captured: rows, and the length that they are padded to."""

    rows: int
    width: int


def buckets_of(shape: BatchShape) -> list[Bucket]:
    """Return the buckets for the batches of a shape, largest first: 1, 2, 4, ... rows of each of its lengths.

    They end at `free_tokens`: below, a run takes as long as its kernels take to start, and rows that are filled up cost
    nothing; above, the GPU works longer than that, and there is nothing to gain.
    """
    most, found = min(shape.free_tokens, shape.max_tokens), []
    for width in shape.lengths:
        rows = 1
        while rows * width <= most:
            found.append(Bucket(rows, width))
            rows *= 2
    return sorted(found, key=lambda bucket: -bucket.rows * bucket.width)  # so that memory is taken once


def smallest(buckets: Sequence[Bucket], rows: int, width: int) -> Bucket | None:
    """Return the bucket of the fewest padded tokens that a run fits into; None where none does."""
    fitting = (bucket for bucket in buckets if bucket.rows >= rows and bucket.width >= width)
    return min(fitting, key=lambda bucket: bucket.rows * bucket.width, default=None)


def fill_up(array: NDArray[np.int64], bucket: Bucket, padding: int) -> NDArray[np.int64]:
    """Return an array [B, T] grown to a bucket: columns by `padding`, rows by copies of the last one.

    A row of its own masked out as a whole would divide by no tokens; a copy is as harmless as the row is.
    """
    rows, width = array.shape
    filled = np.full((bucket.rows, bucket.width), padding, dtype=array.dtype)
    filled[:rows, :width] = array
    filled[rows:] = filled[rows - 1]
    return filled


class FixedRuns:
    """The runs of one session, for any thread: those that fit a captured bucket in it, the others as they come."""

    def __init__(self, session: onnxruntime.InferenceSession, output_name: str, pad_id: int, device: str) -> None:
        """Take a session on `cpu` or `cuda` whose inputs are int64 [B, T] and whose output is [B] or [B, 1]."""
        self.buckets: tuple[Bucket, ...] = ()  # those captured, largest first
        self._session, self._output_name, self._device = session, output_name, device
        self._paddings = {node.name: 0 for node in session.get_inputs()} | {"input_ids": pad_id}
        self._fixed: dict[Bucket, _Buffers] = {}

    def run(self, feeds: Feeds) -> Output:
        """Return the output for inputs [B, T], whatever B and T are."""
        return DEVICE.call(lambda: self._run(feeds))

    def capture(self, buckets: Sequence[Bucket], samples: Feeds, tolerance: float) -> None:
        """Capture buckets and compare each with a run that is not captured, over the rows of `samples` [B, T].

        Raises MachineError where the two differ by more than `tolerance`, or onnxruntime refuses: none is then used.
        """
        try:  # one by one: those who run a model on the same thread wait for one capture at most
            numbered = enumerate(buckets, start=1)
            differences = [DEVICE.call(functools.partial(self._capture, each, n, samples)) for n, each in numbered]
        except Exception as error:  # noqa: BLE001 - onnxruntime's errors have no class of their own in common
            raise MachineError(f"CUDA graphs: onnxruntime could not capture this model: {error}") from None
        worst = float(np.max(differences, initial=0.0))  # NaN where one is
        if not worst <= tolerance:  # also catches NaN
            raise MachineError(f"CUDA graphs: captured runs differ by {worst} from others; expected {tolerance}")
        self.buckets = tuple(buckets)
        log.info("captured CUDA graphs", extra={"buckets": len(buckets), "largest_difference": worst})

    def _run(self, feeds: Feeds) -> Output:
        rows, width = next(iter(feeds.values())).shape
        bucket = smallest(self.buckets, rows, width)
        return self._run_loose(feeds) if bucket is None else self._run_fixed(bucket, feeds)[:rows]

    def _run_fixed(self, bucket: Bucket, feeds: Feeds) -> Output:
        """Run in a bucket; the output has its rows."""
        return self._fixed[bucket].run(self._session, self._filled(bucket, feeds))

    def _filled(self, bucket: Bucket, feeds: Feeds) -> Feeds:
        return {name: fill_up(array, bucket, self._paddings[name]) for name, array in feeds.items()}

    def _run_loose(self, feeds: Feeds) -> Output:
        binding = self._session.io_binding()
        for name, array in feeds.items():
            binding.bind_cpu_input(name, array)
        binding.bind_output(self._output_name, "cpu")
        self._session.run_with_iobinding(binding, _option(UNCAPTURED))
        found: Output = binding.copy_outputs_to_cpu()[0]
        return found

    def _capture(self, bucket: Bucket, number: int, samples: Feeds) -> float:
        """Return the largest difference between a run that was captured and one that was not."""
        first, second = (self._filled(bucket, _sample(samples, bucket, shift)) for shift in (0, 1))
        expected = self._run_loose(second)
        output = np.zeros((bucket.rows, *expected.shape[1:]), dtype=expected.dtype)
        self._fixed[bucket] = _Buffers(self._session, second, self._output_name, output, self._device, number)
        for _ in range(WARM_RUNS):
            self._run_fixed(bucket, first)
        found = self._run_fixed(bucket, second)  # other inputs than those that were captured
        return float(np.abs(found - expected).max())


class _Buffers:
    """Inputs and output of one bucket on the device, bound once."""

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        feeds: Feeds,
        output_name: str,
        output: Output,
        device: str,
        number: int,
    ) -> None:
        """Take inputs and output of the bucket's shape and type; `number` is the graph's, 1 or more."""
        self._inputs = {name: _place(array, device) for name, array in feeds.items()}
        self._output = _place(output, device)
        self._option = _option(number)
        self._binding = session.io_binding()
        for name, value in self._inputs.items():
            self._binding.bind_ortvalue_input(name, value)
        self._binding.bind_ortvalue_output(output_name, self._output)

    def run(self, session: onnxruntime.InferenceSession, feeds: Feeds) -> Output:
        """Write the inputs to where they are read from, run, and return a copy of the output."""
        for name, array in feeds.items():
            self._inputs[name].update_inplace(array)
        self._binding.synchronize_inputs()
        session.run_with_iobinding(self._binding, self._option)
        self._binding.synchronize_outputs()
        return np.array(self._output.numpy())


def _place(array: NDArray[np.generic], device: str) -> onnxruntime.OrtValue:
    return onnxruntime.OrtValue.ortvalue_from_shape_and_type(list(array.shape), array.dtype.type, device, 0)


def _option(graph: int) -> onnxruntime.RunOptions:
    options = onnxruntime.RunOptions()
    options.add_run_config_entry(GRAPH_ID, str(graph))
    return options


def _sample(samples: Feeds, bucket: Bucket, shift: int) -> Feeds:
    """Return the rows of samples from `shift` on, round and round, cut to a bucket's width."""
    count = len(next(iter(samples.values())))
    rows = (np.arange(bucket.rows) + shift) % count
    return {name: array[rows, : bucket.width] for name, array in samples.items()}
