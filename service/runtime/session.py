"""Runs a bundle's ONNX graph: tokenised pairs in, logits out. Knows no HTTP, no batching and no thresholds."""

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from relevance.bundle import Bundle
from relevance.errors import BundleError, MachineError
from relevance.session import check_names, checked_logits, open_session, self_test
from relevance.tokenization import TokenizedPair
from service.batch_shape import BatchShape
from service.runtime.cuda_graphs import OPENING, FixedRuns, buckets_of
from service.runtime.providers import GpuOptions, device_of, providers

log = logging.getLogger(__name__)

WARM_LENGTH = 32


class Engine:
    """An onnxruntime session over a bundle that has passed its golden self-test."""

    unknown_tokens = 0  # of all pairs that were scored
    _fixed: FixedRuns | None = None  # what makes the runs where CUDA graphs are asked for

    def __init__(self, bundle: Bundle, threads: int = 0, device: str = "auto", gpu: GpuOptions | None = None) -> None:
        """Load the model and score the golden pairs.

        Raises BundleError where the model does not load, does not fit its manifest or disagrees with its golden
        logits, and MachineError where CUDA is asked for and not there.
        """
        self.bundle = bundle
        self._counting = threading.Lock()
        self.tokenizer = bundle.tokenizer()
        gpu = gpu or GpuOptions(BatchShape(1))
        self._threads, self._asked_device, self._gpu = threads, device, gpu
        self._session = self._opened()
        self.device = device_of(self._session, device)
        if gpu.cuda_graphs and self.device == "cuda":
            self._fixed = self._fixed_runs()
        elif gpu.cuda_graphs:
            log.warning("cuda_graphs: there are none on the CPU")
        check_names(self.bundle, self._session)
        self.golden_difference = self._self_test()
        self.unknown_tokens = 0

    def logits(self, pairs: Sequence[TokenizedPair], width: int = 0) -> NDArray[np.float32]:
        """Return logits [B] of pairs as one batch, padded to the longest, or to `width` where that is more.

        Raises BundleError for a NaN or infinity.
        """
        manifest = self.bundle.manifest
        arrays = self.tokenizer.collate(pairs, width)
        if self.tokenizer.unknown_id is not None:
            unknown = int(np.count_nonzero(arrays["input_ids"] == self.tokenizer.unknown_id))
            with self._counting:  # runs go side by side
                self.unknown_tokens += unknown
        feeds = {name: arrays[name] for name in manifest.input_names}
        found = self._run(feeds)
        return checked_logits(self.bundle, found, len(pairs))

    def _run(self, feeds: Mapping[str, NDArray[np.int64]]) -> NDArray[np.floating]:
        if self._fixed is not None:
            return self._fixed.run(feeds)
        if self.device == "cuda":
            return self._run_bound(feeds)
        found: NDArray[np.floating] = self._session.run([self.bundle.manifest.output_name], feeds)[0]
        return found

    def _run_bound(self, feeds: Mapping[str, NDArray[np.int64]]) -> NDArray[np.floating]:
        """Run with inputs and output bound: one copy to the device and one back, without waiting in between."""
        binding = self._session.io_binding()
        for name, array in feeds.items():
            binding.bind_cpu_input(name, array)
        binding.bind_output(self.bundle.manifest.output_name, "cpu")
        self._session.run_with_iobinding(binding)
        found: NDArray[np.floating] = binding.copy_outputs_to_cpu()[0]
        return found

    def warm_up(self, shape: BatchShape) -> list[tuple[int, int, float]]:
        """Run the shapes that batches will have; return tokens, padded tokens and seconds of the last run of each.

        With exact lengths (CPU) there is nothing to prepare: one batch is run, to know the speed.
        """
        if self._fixed is not None and self._gpu.cuda_graphs:
            self._capture(self._fixed, shape)
        found = []
        for width in shape.lengths or [min(WARM_LENGTH, self.tokenizer.max_length)]:
            pair = TokenizedPair([self.tokenizer.pad_id] * width, [0] * width, truncated=False)
            for rows in sorted({1, shape.max_rows(width)}):
                pairs = [pair] * rows
                self.logits(pairs)
                began = time.monotonic()
                self.logits(pairs)
            found.append((rows * width, rows * width, time.monotonic() - began))
        return found

    def _opened(self) -> onnxruntime.InferenceSession:
        """Open a session; one without CUDA graphs where onnxruntime refuses to capture the model's."""
        try:
            with OPENING:
                return open_session(self.bundle, self._threads, providers(self._asked_device, self._gpu))
        except BundleError as error:
            if not self._gpu.cuda_graphs:
                raise
            log.warning(f"cuda_graphs: scoring without, since onnxruntime refuses: {error}")
            self._gpu = replace(self._gpu, cuda_graphs=False)
            return self._opened()

    def _fixed_runs(self) -> FixedRuns:
        return FixedRuns(self._session, self.bundle.manifest.output_name, self.tokenizer.pad_id, self.device)

    def _capture(self, runs: FixedRuns, shape: BatchShape) -> None:
        """Capture the CUDA graphs of a shape; where they score differently, or not at all, go on without."""
        manifest = self.bundle.manifest
        pairs = self.tokenizer.encode_pairs(manifest.texts([golden.pair for golden in self.bundle.golden]))
        arrays = self.tokenizer.collate(pairs)
        samples = {name: arrays[name] for name in manifest.input_names}
        try:
            with OPENING:
                runs.capture(buckets_of(shape), samples, manifest.golden_tolerance)
        except MachineError as error:
            log.warning(f"cuda_graphs: scoring without: {error}")
            self._gpu = replace(self._gpu, cuda_graphs=False)
            self._session = self._opened()
            self._fixed = self._fixed_runs()  # with no bucket: still on the thread of those that capture
            self._self_test()

    def _self_test(self) -> float:
        return self_test(self.bundle, self.tokenizer, self.logits)
