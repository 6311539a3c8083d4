"""The onnxruntime session of a bundle: opened, checked against its manifest, and tested on its golden pairs.

`relevance.Scorer`, `relevance score`, the export's checks and the service share these pieces. The only module of the
kernel that imports onnxruntime. Knows no rows, no HTTP and no scheduling.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from relevance.errors import BundleError, MachineError
from relevance.model.bundle import MODEL_FILE, Bundle
from relevance.model.cores import usable_cores
from relevance.model.inputs import PairInputs
from relevance.tasks import Pair
from relevance.text.token_columns import TokenColumns
from relevance.text.tokenization import PairTokenizer, TokenizedPair, batches

try:
    import onnxruntime
except ModuleNotFoundError:
    raise MachineError(
        "scoring needs the package onnxruntime; expected it from the extra `serve` (CPU) or `serve-gpu`"
    ) from None

Device = Literal["auto", "cpu", "cuda"]
Logits = NDArray[np.float32]
Arrays = dict[str, np.ndarray]  # what the model reads of a batch, by the name of the input

KNOWN_INPUTS = frozenset({"input_ids", "attention_mask", "token_type_ids", "features"})
CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
# All attention kernels that onnxruntime chooses from, except cuDNN's (8). By default it takes that one for fp16, from
# Hopper on. cuDNN then builds a plan for every new shape, which takes some 40 ms, and batches rarely repeat a shape
# (docs/performance.md has the speed with and without it).
ATTENTION_KERNELS = 1 | 2 | 4 | 16 | 32 | 64
CUDA_OPTIONS = {
    "sdpa_kernel": str(ATTENTION_KERNELS),
    "use_tf32": "0",  # products in fp32 are what an fp32 bundle promises; who wants speed takes fp16
}
DEFAULT_BATCH_TOKENS = {"cpu": 2048, "cuda": 16_384}
GOLDEN_BATCH = 32


Tokens = TokenColumns | Sequence[TokenizedPair]  # of N pairs


class Read(NamedTuple):
    """What a model gave for pairs, [N] each: logits, and whether text was cut to the length that it reads."""

    logits: Logits
    truncated: NDArray[np.bool_]


@dataclass(frozen=True)
class BundleSession:
    """A session over a bundle; `open` also runs the golden self-test."""

    bundle: Bundle
    inputs: PairInputs
    session: onnxruntime.InferenceSession

    @classmethod
    def open(cls, bundle: Bundle, threads: int = 0, device: Device = "auto") -> Self:
        """Start a session over an opened bundle and score its golden pairs. Raises as `start` and `self_test` do."""
        opened = cls.start(bundle, threads, device)
        opened.test()
        return opened

    @classmethod
    def start(cls, bundle: Bundle, threads: int = 0, device: Device = "auto") -> Self:
        """Start a session without the golden self-test; `threads` 0 means every usable core.

        Raises BundleError where the model does not load or does not fit its manifest, and MachineError where CUDA is
        asked for and not available.
        """
        available = onnxruntime.get_available_providers()
        if device == "cuda" and CUDA not in available:
            raise MachineError(f"device cuda: onnxruntime offers {available}; expected the package onnxruntime-gpu")
        on_gpu = device != "cpu" and CUDA in available
        if on_gpu:
            onnxruntime.preload_dlls()  # the CUDA and cuDNN libraries of the Python packages, where installed
        session = open_session(bundle, threads, [(CUDA, CUDA_OPTIONS), CPU] if on_gpu else [CPU])
        check_names(bundle, *graph_names(session))
        opened = cls(bundle, bundle.inputs(), session)
        if device == "cuda" and opened.device != "cuda":
            raise MachineError("device cuda: onnxruntime could not start CUDA; see its messages above")
        return opened

    @property
    def tokenizer(self) -> PairTokenizer:
        """The tokeniser, set up as the model was trained."""
        return self.inputs.tokenizer

    @property
    def device(self) -> Literal["cpu", "cuda"]:
        """Where the model runs."""
        return "cuda" if self.session.get_providers()[0] == CUDA else "cpu"

    def test(self) -> float:
        """Score the bundle's golden pairs, as `self_test` does."""
        return self_test(self.bundle, self.inputs, lambda pairs: self._run(self.tokenizer.collate(pairs)))

    def read(self, pairs: Sequence[Pair], tokens: Tokens, max_batch_tokens: int | None = None) -> Read:
        """Return the logits of pairs by their tokens alone, as `logits` does."""
        if isinstance(tokens, TokenColumns):
            return Read(self.column_logits(tokens, max_batch_tokens), tokens.truncated)
        truncated = np.array([pair.truncated for pair in tokens], dtype=np.bool_)
        return Read(self.logits(tokens, max_batch_tokens), truncated)

    def logits(self, pairs: Sequence[TokenizedPair], max_batch_tokens: int | None = None) -> Logits:
        """Return logits [N] in the order of the pairs, run in batches of at most `max_batch_tokens` padded tokens.

        The default budget is the device's. Raises BundleError for a logit that is not finite, MachineError where the
        runtime fails, for example out of memory.
        """
        lengths = np.array([len(pair) for pair in pairs], dtype=np.int64)
        return self._batched(lengths, lambda some: self.tokenizer.collate([pairs[n] for n in some]), max_batch_tokens)

    def column_logits(self, pairs: TokenColumns, max_batch_tokens: int | None = None) -> Logits:
        """Return what `logits` returns, of pairs whose tokens are columns."""
        return self._batched(pairs.lengths, pairs.collate, max_batch_tokens)

    def _batched(
        self, lengths: NDArray[np.int64], collate: Callable[[Sequence[int]], Arrays], max_batch_tokens: int | None
    ) -> Logits:
        found = np.zeros(len(lengths), dtype=np.float32)
        for places in batches(lengths, max_batch_tokens or DEFAULT_BATCH_TOKENS[self.device]):
            found[places] = self._run(collate(places))
        return found

    def _run(self, arrays: Arrays) -> Logits:
        """Return the logits [B] of one batch."""
        manifest = self.bundle.manifest
        try:
            (found,) = self.session.run([manifest.output_name], {name: arrays[name] for name in manifest.input_names})
        except Exception as error:  # noqa: BLE001 - onnxruntime's errors share no base class
            raise run_error(self.bundle, arrays, error) from None
        return checked_logits(self.bundle, found, len(arrays["input_ids"]))


def open_session(
    bundle: Bundle, threads: int, providers: Sequence[str | tuple[str, dict[str, str]]]
) -> onnxruntime.InferenceSession:
    """Return a session over the bundle's graph with `providers`, the preferred one first; `threads` 0: all cores.

    Raises BundleError where the graph does not load.
    """
    try:
        return onnxruntime.InferenceSession(
            str(bundle.folder / MODEL_FILE), session_options(threads), providers=list(providers)
        )
    except Exception as error:  # noqa: BLE001 - onnxruntime's errors share no base class
        raise BundleError(f"bundle {bundle.folder}: {MODEL_FILE} does not load: {error}") from None


def session_options(threads: int = 0) -> onnxruntime.SessionOptions:
    """Return the options of all sessions; `threads` 0 means every usable core."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or usable_cores()
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.enable_mem_pattern = False  # plans memory for shapes seen before; here they hardly ever recur
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # spinning starves other threads
    return options


def graph_names(session: onnxruntime.InferenceSession) -> tuple[set[str], set[str]]:
    """Return the names of a graph's inputs and of its outputs."""
    return {node.name for node in session.get_inputs()}, {node.name for node in session.get_outputs()}


def check_names(bundle: Bundle, inputs: set[str], outputs: set[str]) -> None:
    """Raise BundleError where the graph's inputs or output are not those of the manifest."""
    manifest = bundle.manifest
    if set(manifest.input_names) != inputs or not inputs <= KNOWN_INPUTS or manifest.output_name not in outputs:
        raise BundleError(
            f"bundle {bundle.folder}: {MODEL_FILE} has inputs {sorted(inputs)} and outputs {sorted(outputs)}, expected "
            f"those of its manifest, {sorted(manifest.input_names)} out of {sorted(KNOWN_INPUTS)} and "
            f"{manifest.output_name!r}"
        )


def checked_logits(bundle: Bundle, found: NDArray[np.floating], count: int) -> Logits:
    """Return an output as float32 logits [count]. Raises BundleError for another shape, NaN or infinity."""
    if found.shape not in {(count,), (count, 1)}:
        raise BundleError(f"bundle {bundle.folder}: output {found.shape}, expected one logit for each of {count} pairs")
    logits: Logits = found.reshape(count).astype(np.float32)
    if not np.isfinite(logits).all():
        raise BundleError(f"bundle {bundle.folder}: {(~np.isfinite(logits)).sum()} logits are not finite")
    return logits


def run_error(bundle: Bundle, arrays: Mapping[str, NDArray[Any]], error: Exception | str) -> MachineError:
    """Return the error of a batch on which the runtime failed, for example out of memory."""
    rows, width = arrays["input_ids"].shape
    return MachineError(f"bundle {bundle.folder}: a batch of {rows} pairs of {width} tokens does not run: {error}")


def self_test(
    bundle: Bundle,
    inputs: PairInputs,
    run: Callable[[Sequence[TokenizedPair]], Logits],
    tolerance: float | None = None,
) -> float:
    """Return the largest difference between the golden logits and those that `run` gives, in batches of mixed lengths.

    Raises BundleError for a bundle without golden pairs, and past `tolerance`, by default the bundle's own.
    """
    if not bundle.golden:
        raise BundleError(f"bundle {bundle.folder}: no golden pairs; expected at least one")
    pairs = inputs.encode([golden.pair for golden in bundle.golden])
    parts = [run(pairs[start : start + GOLDEN_BATCH]) for start in range(0, len(pairs), GOLDEN_BATCH)]
    return bundle.check_golden([float(logit) for part in parts for logit in part], tolerance)
