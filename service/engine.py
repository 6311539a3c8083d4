"""Runs a bundle's ONNX graph: tokenised pairs in, logits out. Knows no HTTP, no batching and no thresholds."""

import logging
import math
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from relevance.bundle import MODEL_FILE, Bundle
from relevance.errors import BundleError, MachineError
from relevance.tokenization import TokenizedPair
from service.batching import Shape

log = logging.getLogger(__name__)

CUDA = "CUDAExecutionProvider"
CPU = "CPUExecutionProvider"
GOLDEN_BATCH = 32
WARM_LENGTH = 32
KNOWN_INPUTS = {"input_ids", "attention_mask", "token_type_ids"}


class Engine:
    """An onnxruntime session over a bundle that has passed its golden self-test."""

    unknown_tokens = 0  # of all pairs that were scored

    def __init__(self, bundle: Bundle, threads: int = 0, device: str = "auto", gpu_memory_mb: int = 0) -> None:
        """Load the model and score the golden pairs.

        Raises BundleError where the model does not load, does not fit its manifest or disagrees with its golden
        logits, and MachineError where CUDA is asked for and not there.
        """
        self.bundle = bundle
        self.tokenizer = bundle.tokenizer()
        self._session = _open_session(bundle, threads, _providers(device, gpu_memory_mb))
        self.device = "cuda" if self._session.get_providers()[0] == CUDA else "cpu"
        if device == "cuda" and self.device != "cuda":
            raise MachineError("device cuda: onnxruntime could not start CUDA; see its messages above")
        if device == "auto" and self.device == "cpu" and CUDA in onnxruntime.get_available_providers():
            log.warning("onnxruntime offers CUDA but could not start it; scoring on the CPU")
        self._check_names()
        self.golden_difference = self._self_test()
        self.unknown_tokens = 0

    def logits(self, pairs: Sequence[TokenizedPair], width: int = 0) -> NDArray[np.float32]:
        """Return logits [B] of pairs as one batch, padded to the longest, or to `width` where that is more.

        Raises BundleError for a NaN or infinity.
        """
        manifest = self.bundle.manifest
        arrays = self.tokenizer.collate(pairs, width)
        if self.tokenizer.unknown_id is not None:
            self.unknown_tokens += int(np.count_nonzero(arrays["input_ids"] == self.tokenizer.unknown_id))
        feeds = {name: arrays[name] for name in manifest.input_names}
        found = self._run_bound(feeds) if self.device == "cuda" else self._session.run([manifest.output_name], feeds)[0]
        if found.shape not in {(len(pairs),), (len(pairs), 1)}:
            raise BundleError(f"bundle {self.bundle.folder}: output {found.shape}, expected one logit a pair")
        logits: NDArray[np.float32] = found.reshape(len(pairs)).astype(np.float32)
        if not np.isfinite(logits).all():
            raise BundleError(f"bundle {self.bundle.folder}: {(~np.isfinite(logits)).sum()} logits are not finite")
        return logits

    def _run_bound(self, feeds: Mapping[str, NDArray[np.int64]]) -> NDArray[np.floating]:
        """Run with inputs and output bound: one copy to the device and one back, without waiting in between."""
        binding = self._session.io_binding()
        for name, array in feeds.items():
            binding.bind_cpu_input(name, array)
        binding.bind_output(self.bundle.manifest.output_name, "cpu")
        self._session.run_with_iobinding(binding)
        found: NDArray[np.floating] = binding.copy_outputs_to_cpu()[0]
        return found

    def warm_up(self, shape: Shape) -> list[tuple[int, int, float]]:
        """Run the shapes that batches will have; return tokens, padded tokens and seconds of the last run of each.

        With exact lengths (CPU) there is nothing to prepare: one batch is run, to know the speed.
        """
        found = []
        for width in shape.lengths or [min(WARM_LENGTH, self.tokenizer.max_length)]:
            pair = TokenizedPair([self.tokenizer.pad_id] * width, [0] * width, truncated=False)
            for rows in sorted({1, shape.rows(width)}):
                pairs = [pair] * rows
                self.logits(pairs)
                began = time.monotonic()
                self.logits(pairs)
            found.append((rows * width, rows * width, time.monotonic() - began))
        return found

    def _check_names(self) -> None:
        manifest, folder = self.bundle.manifest, self.bundle.folder
        inputs = {node.name for node in self._session.get_inputs()}
        if set(manifest.input_names) != inputs or not inputs <= KNOWN_INPUTS:
            raise BundleError(
                f"bundle {folder}: {MODEL_FILE} has inputs {sorted(inputs)}, the manifest "
                f"{sorted(manifest.input_names)}; expected both the same and out of {sorted(KNOWN_INPUTS)}"
            )
        outputs = [node.name for node in self._session.get_outputs()]
        if manifest.output_name not in outputs:
            raise BundleError(f"bundle {folder}: {MODEL_FILE} has outputs {outputs}, not {manifest.output_name!r}")

    def _self_test(self) -> float:
        """Return the largest difference to the golden logits, scored in batches of mixed lengths."""
        texts = self.bundle.manifest.texts([golden.pair for golden in self.bundle.golden])
        if not texts:
            raise BundleError(f"bundle {self.bundle.folder}: no golden pairs; expected at least one")
        pairs = self.tokenizer.encode_pairs(texts)
        batches = [pairs[start : start + GOLDEN_BATCH] for start in range(0, len(pairs), GOLDEN_BATCH)]
        return self.bundle.check_golden([float(logit) for batch in batches for logit in self.logits(batch)])


def usable_cores() -> int:
    """Return how many cores this process may use: its affinity, and its container's quota where there is one."""
    cores = len(os.sched_getaffinity(0))
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(cores, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):  # no such file, or "max": no quota
        return cores


def _providers(device: str, gpu_memory_mb: int) -> list[str | tuple[str, dict[str, str]]]:
    available = onnxruntime.get_available_providers()
    if device == "cuda" and CUDA not in available:
        raise MachineError(f"device cuda: onnxruntime offers {available}; expected the package onnxruntime-gpu")
    if device != "cpu" and CUDA in available:
        onnxruntime.preload_dlls()  # the CUDA and cuDNN libraries of the Python packages, where they are installed
    if device == "cpu" or CUDA not in available:
        return [CPU]
    options = {"arena_extend_strategy": "kSameAsRequested"}  # grow by what is needed, not to the next power of two
    if gpu_memory_mb:
        options["gpu_mem_limit"] = str(gpu_memory_mb * 1024 * 1024)
    return [(CUDA, options), CPU]


def _open_session(
    bundle: Bundle, threads: int, providers: list[str | tuple[str, dict[str, str]]]
) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or usable_cores()
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.enable_mem_pattern = False  # plans memory for shapes seen before; here they hardly ever recur
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # spinning starves the event loop
    try:
        return onnxruntime.InferenceSession(str(bundle.folder / MODEL_FILE), options, providers=providers)
    except Exception as error:  # noqa: BLE001 - onnxruntime's errors have no class of their own in common
        raise BundleError(f"bundle {bundle.folder}: {MODEL_FILE} does not load: {error}") from None
