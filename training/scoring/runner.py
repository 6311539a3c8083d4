"""Runs a bundle's ONNX graph over many pairs: sorted by length, in batches of bounded size. Knows no files of rows."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from relevance.bundle import MODEL_FILE, Bundle
from relevance.errors import BundleError, MachineError
from relevance.tokenization import PairTokenizer, TokenizedPair

Device = Literal["auto", "cpu", "cuda"]
KNOWN_INPUTS = {"input_ids", "attention_mask", "token_type_ids"}
CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
DEFAULT_BATCH_TOKENS = {"cpu": 2048, "cuda": 16_384}


@dataclass(frozen=True)
class Runner:
    """A session over a bundle that has passed its golden self-test."""

    bundle: Bundle
    tokenizer: PairTokenizer
    session: onnxruntime.InferenceSession

    @property
    def device(self) -> Literal["cpu", "cuda"]:
        """Where the model runs."""
        return "cuda" if self.session.get_providers()[0] == CUDA else "cpu"

    def logits(self, pairs: Sequence[TokenizedPair], max_batch_tokens: int | None = None) -> NDArray[np.float32]:
        """Return logits [N] in the order of the pairs, run in batches of at most `max_batch_tokens` padded tokens.

        The default budget is the device's. Raises BundleError for a logit that is not finite, MachineError where the
        runtime fails, out of memory for instance.
        """
        found = np.zeros(len(pairs), dtype=np.float32)
        for places in batches([len(pair) for pair in pairs], max_batch_tokens or DEFAULT_BATCH_TOKENS[self.device]):
            found[places] = self._run([pairs[place] for place in places])
        return found

    def _run(self, pairs: Sequence[TokenizedPair]) -> NDArray[np.float32]:
        """Return the logits [B] of one batch."""
        manifest, folder = self.bundle.manifest, self.bundle.folder
        arrays = self.tokenizer.collate(pairs)
        feeds = {name: arrays[name] for name in manifest.input_names}
        try:
            (found,) = self.session.run([manifest.output_name], feeds)
        except Exception as error:  # noqa: BLE001 - onnxruntime's errors share no base class
            size = f"{len(pairs)} pairs of {arrays['input_ids'].shape[1]} tokens"
            raise MachineError(f"bundle {folder}: a batch of {size} does not run: {error}") from None
        if found.size != len(pairs):
            raise BundleError(f"bundle {folder}: output {found.shape}, expected one logit a pair")
        if not np.isfinite(found).all():
            raise BundleError(f"bundle {folder}: {(~np.isfinite(found)).sum()} logits are not finite")
        logits: NDArray[np.float32] = found.reshape(len(pairs))
        return logits


def bundle_runner(bundle: Bundle, threads: int = 0, device: Device = "auto") -> Runner:
    """Open a session over an opened bundle and score its golden pairs; `threads` 0 means every core allowed.

    Raises BundleError where the model does not load, does not fit its manifest or disagrees with its golden logits,
    and MachineError where CUDA is asked for and not there.
    """
    session = _open_session(bundle, threads, device)
    _check_names(bundle, session)
    runner = Runner(bundle, bundle.tokenizer(), session)
    if device == "cuda" and runner.device != "cuda":
        raise MachineError("device cuda: onnxruntime could not start CUDA; see its messages above")
    if not bundle.golden:
        raise BundleError(f"bundle {bundle.folder}: no golden pairs; expected at least one")
    texts = bundle.manifest.texts([golden.pair for golden in bundle.golden])
    bundle.check_golden(runner.logits(runner.tokenizer.encode_pairs(texts)).tolist())
    return runner


def batches(lengths: Sequence[int], max_batch_tokens: int) -> Iterator[list[int]]:
    """Yield the places of the next batch, longest pairs first, so that too large a batch fails at once.

    Rows x longest length stays within `max_batch_tokens`, unless one pair alone is longer. Pairs of one length keep
    their order: equal lengths give equal batches.
    """
    order = sorted(range(len(lengths)), key=lambda place: -lengths[place])
    start = 0
    while start < len(order):
        end = start + max(1, max_batch_tokens // lengths[order[start]])
        yield order[start:end]
        start = end


def _open_session(bundle: Bundle, threads: int, device: Device) -> onnxruntime.InferenceSession:
    available = onnxruntime.get_available_providers()
    if device == "cuda" and CUDA not in available:
        raise MachineError(f"device cuda: onnxruntime offers {available}; expected the package onnxruntime-gpu")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or len(os.sched_getaffinity(0))
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    providers = [CUDA, CPU] if device != "cpu" and CUDA in available else [CPU]
    try:
        return onnxruntime.InferenceSession(str(bundle.folder / MODEL_FILE), options, providers=providers)
    except Exception as error:  # noqa: BLE001 - onnxruntime's errors share no base class
        raise BundleError(f"bundle {bundle.folder}: {MODEL_FILE} does not load: {error}") from None


def _check_names(bundle: Bundle, session: onnxruntime.InferenceSession) -> None:
    manifest = bundle.manifest
    inputs, outputs = ({node.name for node in nodes} for nodes in (session.get_inputs(), session.get_outputs()))
    if set(manifest.input_names) != inputs or not inputs <= KNOWN_INPUTS or manifest.output_name not in outputs:
        raise BundleError(
            f"bundle {bundle.folder}: {MODEL_FILE} has inputs {sorted(inputs)} and outputs {sorted(outputs)}, expected "
            f"those of its manifest, {sorted(manifest.input_names)} out of {sorted(KNOWN_INPUTS)} and "
            f"{manifest.output_name!r}"
        )
