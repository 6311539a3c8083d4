"""LitServe with onnxruntime over the same graph: requests batched by LitServe, pairs by 32 in the order they come.

`python litserve_onnx.py BUNDLE MAX_LENGTH PORT`
"""

import sys

import litserve
import numpy as np
import onnxruntime
from tokenizers import Tokenizer

ROWS = 32
BATCH_REQUESTS, BATCH_WAIT_SECONDS = 4, 0.005


class PairScorer(litserve.LitAPI):
    def __init__(self, bundle: str, max_length: int) -> None:
        super().__init__(max_batch_size=BATCH_REQUESTS, batch_timeout=BATCH_WAIT_SECONDS)
        self.bundle, self.max_length = bundle, max_length

    def setup(self, device: str) -> None:
        self.tokenizer = Tokenizer.from_file(f"{self.bundle}/tokenizer.json")
        self.tokenizer.enable_truncation(self.max_length)
        self.tokenizer.enable_padding(pad_id=self.tokenizer.token_to_id("<pad>"))
        self.session = onnxruntime.InferenceSession(f"{self.bundle}/model.onnx", providers=["CPUExecutionProvider"])
        self.names = {each.name for each in self.session.get_inputs()}

    def decode_request(self, request: dict) -> list[list[str]]:
        return request["pairs"]

    def batch(self, inputs: list[list[list[str]]]) -> tuple[list[list[str]], list[int]]:
        return [pair for pairs in inputs for pair in pairs], [len(pairs) for pairs in inputs]

    def predict(self, batch: tuple[list[list[str]], list[int]]) -> list[np.ndarray]:
        pairs, counts = batch
        logits = [self.run(pairs[start : start + ROWS]) for start in range(0, len(pairs), ROWS)]
        scores = 1 / (1 + np.exp(-np.concatenate(logits)))
        return np.split(scores, np.cumsum(counts)[:-1])

    def run(self, pairs: list[list[str]]) -> np.ndarray:
        encoded = self.tokenizer.encode_batch([tuple(pair) for pair in pairs])
        inputs = {
            "input_ids": np.array([each.ids for each in encoded], dtype=np.int64),
            "attention_mask": np.array([each.attention_mask for each in encoded], dtype=np.int64),
        }
        return self.session.run(None, {name: inputs[name] for name in self.names})[0].reshape(-1)

    def unbatch(self, output: list[np.ndarray]) -> list[np.ndarray]:
        return output

    def encode_response(self, output: np.ndarray) -> dict[str, list[float]]:
        return {"scores": output.tolist()}


if __name__ == "__main__":
    api = PairScorer(sys.argv[1], int(sys.argv[2]))
    server = litserve.LitServer(api, accelerator="cpu", timeout=600)
    server.run(port=int(sys.argv[3]), generate_client_file=False, log_level="warning")
