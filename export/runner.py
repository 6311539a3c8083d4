"""Runs an ONNX model over tokenised pairs, plainly: for parity and verification, not for speed. Needs no torch."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from relevance.errors import MachineError
from relevance.tokenization import PairTokenizer, TokenizedPair

BATCH = 32


def graph_inputs(path: Path) -> tuple[str, ...]:
    """Return the names of a graph's own inputs. An input that no operator reads is none: exporters leave it out."""
    graph = onnx.load(str(path), load_external_data=False).graph
    weights = {each.name for each in graph.initializer}
    return tuple(each.name for each in graph.input if each.name not in weights)


def run_onnx(path: Path, tokenizer: PairTokenizer, pairs: list[TokenizedPair], *, gpu: bool) -> np.ndarray:
    """Return the logits [N] of an ONNX model, on the GPU where that is asked for and there is one, else on the CPU.

    Raises MachineError where the runtime cannot run the model.
    """
    cuda = gpu and "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    providers = ["CUDAExecutionProvider"] if cuda else ["CPUExecutionProvider"]
    try:
        session = onnxruntime.InferenceSession(path, providers=providers)
        names = [entry.name for entry in session.get_inputs()]
        parts = []
        for start in range(0, len(pairs), BATCH):
            batch = tokenizer.collate(pairs[start : start + BATCH])
            parts.append(session.run(None, {name: batch[name] for name in names})[0].reshape(-1))
    except Exception as error:  # noqa: BLE001 - onnxruntime's errors share no base class
        raise MachineError(f"model {path.name} does not run on {providers[0]}: {error}") from None
    return np.concatenate(parts)
