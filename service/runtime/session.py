"""Runs a bundle's ONNX model: tokenised pairs in, logits out. Knows no HTTP, no scheduling and no thresholds."""

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from relevance.errors import BundleError, MachineError, RelevanceError
from relevance.model.bundle import Bundle
from relevance.model.session import check_names, checked_logits, graph_names, open_session, run_error, self_test
from relevance.text.tokenization import TokenizedPair
from service.batch_shape import CPU_SHAPE, GPU_SHAPE, BatchShape
from service.runtime.cuda_graphs import OPENING, Feeds, GraphRunner, buckets_of
from service.runtime.providers import GpuOptions, device_of, providers

log = logging.getLogger(__name__)

WARM_UP_LENGTH = 32


class Engine:
    """An onnxruntime session over a bundle that has passed its golden self-test."""

    runtime = "onnxruntime"  # what computes the model, and in which precision if that is not the bundle's
    unknown_tokens = 0  # in all pairs scored so far
    _graphs: GraphRunner | None = None  # makes all runs if CUDA graphs are on

    def __init__(self, bundle: Bundle, threads: int = 0, device: str = "auto", gpu: GpuOptions | None = None) -> None:
        """Load the model and score the golden pairs.

        Raises BundleError if the model does not load, does not fit its manifest or disagrees with its golden logits,
        and MachineError if CUDA is requested and not available.
        """
        self._read(bundle)
        gpu = gpu or GpuOptions(BatchShape(1))
        self._threads, self._asked_device, self._gpu = threads, device, gpu
        self._session = self._opened()
        self.device = device_of(self._session, device)
        if gpu.cuda_graphs and self.device == "cuda":
            self._graphs = self._graph_runner()
        elif gpu.cuda_graphs:
            log.warning("cuda_graphs: no effect on the CPU")
        check_names(self.bundle, *graph_names(self._session))
        self.golden_difference = self._self_test()
        self.unknown_tokens = 0

    @property
    def golden_tolerance(self) -> float:
        """How far logits may be from the golden ones."""
        return self.bundle.manifest.golden_tolerance

    @property
    def shape(self) -> BatchShape:
        """The shape of the batches that this engine should get."""
        return GPU_SHAPE if self.device == "cuda" else CPU_SHAPE

    def logits(self, pairs: Sequence[TokenizedPair], width: int = 0) -> NDArray[np.float32]:
        """Return logits [B] of pairs as one batch, padded to the longest pair, or to `width` if that is longer.

        Raises BundleError for a logit that is not finite, MachineError where the runtime fails.
        """
        manifest = self.bundle.manifest
        arrays = self.tokenizer.collate(pairs, width)
        if self.tokenizer.unknown_id is not None:
            unknown = int(np.count_nonzero(arrays["input_ids"] == self.tokenizer.unknown_id))
            with self._lock:  # runs are concurrent
                self.unknown_tokens += unknown
        feeds = {name: arrays[name] for name in manifest.input_names}
        try:
            found = self._run(feeds)
        except RelevanceError:
            raise
        except Exception as error:
            raise run_error(self.bundle, feeds, error) from error
        return checked_logits(self.bundle, found, len(pairs))

    def _run(self, feeds: Feeds) -> NDArray[np.floating]:
        if self._graphs is not None:
            return self._graphs.run(feeds)
        if self.device == "cuda":
            return self._run_bound(feeds)
        found: NDArray[np.floating] = self._session.run([self.bundle.manifest.output_name], feeds)[0]
        return found

    def _run_bound(self, feeds: Feeds) -> NDArray[np.floating]:
        """Run with bound inputs and output: one copy to the device and one back, without synchronisation in between."""
        binding = self._session.io_binding()
        for name, array in feeds.items():
            binding.bind_cpu_input(name, array)
        binding.bind_output(self.bundle.manifest.output_name, "cpu")
        self._session.run_with_iobinding(binding)
        found: NDArray[np.floating] = binding.copy_outputs_to_cpu()[0]
        return found

    def warm_up(self, shape: BatchShape) -> list[tuple[int, int, float]]:
        """Run each shape that batches will have; return tokens, padded tokens and seconds of the last run of each.

        With exact lengths (CPU) there is nothing to prepare: one batch runs, to measure the throughput.
        """
        if self._graphs is not None and self._gpu.cuda_graphs:
            self._capture(self._graphs, shape)
        found = []
        features = (0.0,) * self.bundle.manifest.head.features
        for width in shape.lengths or [min(WARM_UP_LENGTH, self.tokenizer.max_length)]:
            pair = TokenizedPair([self.tokenizer.pad_id] * width, [0] * width, False, features)
            for rows in sorted({1, shape.max_rows(width)}):
                pairs = [pair] * rows
                self.logits(pairs)
                began = time.monotonic()
                self.logits(pairs)
            found.append((rows * width, rows * width, time.monotonic() - began))
        return found

    def _read(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self._lock = threading.Lock()
        self.inputs = bundle.inputs()
        self.tokenizer = self.inputs.tokenizer

    def _opened(self) -> onnxruntime.InferenceSession:
        """Open a session, without CUDA graphs if onnxruntime refuses them for this model."""
        try:
            with OPENING:
                return open_session(self.bundle, self._threads, providers(self._asked_device, self._gpu))
        except BundleError as error:
            if not self._gpu.cuda_graphs:
                raise
            log.warning(f"cuda_graphs: off, since onnxruntime refuses: {error}")
            self._gpu = replace(self._gpu, cuda_graphs=False)
            return self._opened()

    def _graph_runner(self) -> GraphRunner:
        return GraphRunner(self._session, self.bundle.manifest.output_name, self.tokenizer.pad_id, self.device)

    def _capture(self, runs: GraphRunner, shape: BatchShape) -> None:
        """Capture the CUDA graphs of a shape. Switch them off if they score differently or fail."""
        manifest = self.bundle.manifest
        pairs = self.inputs.encode([golden.pair for golden in self.bundle.golden])
        arrays = self.tokenizer.collate(pairs)
        samples = {name: arrays[name] for name in manifest.input_names}
        try:
            with OPENING:
                runs.capture(buckets_of(shape), samples, manifest.golden_tolerance)
        except MachineError as error:
            log.warning(f"cuda_graphs: off: {error}")
            self._gpu = replace(self._gpu, cuda_graphs=False)
            self._session = self._opened()
            self._graphs = self._graph_runner()  # without buckets, but on the same thread
            self._self_test()

    def _self_test(self) -> float:
        return self_test(self.bundle, self.inputs, self.logits)
