"""The limit of any server: the bare onnxruntime session over batches sorted by length, nothing around it."""

import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from relevance.model.bundle import MODEL_FILE, Bundle
from relevance.model.session import onnxruntime
from relevance.tasks import Pair

BATCH_TOKENS = 512
PROVIDERS: dict[str, list[str | tuple[str, dict[str, str]]]] = {
    "cpu": ["CPUExecutionProvider"],
    "cuda": [("CUDAExecutionProvider", {"use_tf32": "0"}), "CPUExecutionProvider"],  # fp32 products, as the service's
}


class RawSession:
    """A session with onnxruntime's own defaults, and some pairs tokenised and batched for it beforehand."""

    def __init__(
        self, bundle: Bundle, pairs: Sequence[Pair], batch_tokens: int = BATCH_TOKENS, device: str = "cpu"
    ) -> None:
        """Tokenise the pairs, sort them into batches and open the session on `cpu` or `cuda`."""
        inputs, self._manifest = bundle.inputs(), bundle.manifest
        tokens = inputs.encode(pairs)
        self.pairs, self.tokens = len(pairs), sum(len(each) for each in tokens)
        order = sorted(range(len(tokens)), key=lambda i: -len(tokens[i]))
        self._batches, start = [], 0
        while start < len(order):
            rows = order[start : start + max(1, batch_tokens // len(tokens[order[start]]))]
            arrays = inputs.tokenizer.collate([tokens[i] for i in rows])
            self._batches.append((rows, {name: arrays[name] for name in self._manifest.input_names}))
            start += len(rows)
        if device == "cuda":
            onnxruntime.preload_dlls()
        path = str(bundle.folder / MODEL_FILE)
        self._session = onnxruntime.InferenceSession(path, providers=PROVIDERS[device])
        if self._session.get_providers()[0] != _name(PROVIDERS[device][0]):
            raise SystemExit(f"error: onnxruntime could not start {device}; see its messages above")

    def run(self) -> tuple[NDArray[np.float64], float]:
        """Return the scores of the pairs, and the seconds that the session took; tokenisation is not counted."""
        self._session.run(None, self._batches[0][1])
        logits = np.zeros(self.pairs)
        begun = time.perf_counter()
        for rows, inputs in self._batches:
            logits[rows] = self._session.run([self._manifest.output_name], inputs)[0].reshape(-1)
        return self._manifest.scores(logits), time.perf_counter() - begun

    def pairs_a_second(self) -> float:
        """Run once more and return the speed."""
        return self.pairs / self.run()[1]


def _name(provider: str | tuple[str, dict[str, str]]) -> str:
    return provider if isinstance(provider, str) else provider[0]
