"""Sentence embeddings by an encoder model."""

import copy
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from training.models.base.base_models import load_base_encoder, load_padding_tokenizer, resolve_base_model
from training.progress import Meter
from training.sources import code_key
from training.threads import use_free_cores


class EncoderEmbedder:
    """Mean-pooled hidden states of an encoder, with `prefix` before each text (E5 models are trained with `query: `).

    `name` names a base model; raises as `resolve_base_model` does. Runs on a GPU where there is one.
    """

    def __init__(
        self,
        name: str = "packaged:multilingual-e5-small",
        *,
        prefix: str = "query: ",
        batch_size: int = 64,
        max_length: int = 64,
        cache_dir: Path | None = None,
    ) -> None:
        use_free_cores()
        base = resolve_base_model(name, cache_dir=cache_dir)
        self.name = base.name
        code = code_key("training.models.encoder_embedder:EncoderEmbedder")
        self.key = json.dumps([base.revision, batch_size, max_length, code])
        self._prefix, self._batch_size, self._max_length = prefix, batch_size, max_length
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._tokenizer = load_padding_tokenizer(base)
        self._model = load_base_encoder(base)[0].eval().to(self._device)

    def with_prefix(self, prefix: str) -> Self:
        """Return an embedder with another prefix over the same model in memory."""
        other = copy.copy(self)
        other._prefix = prefix
        return other

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return float32 [N, D]. Each different text is embedded once, in batches of similar length."""
        unique = sorted(set(texts), key=lambda text: (len(text), hashlib.sha256(text.encode()).digest()))
        if not unique:
            return np.zeros((0, int(self._model.config.hidden_size)), dtype=np.float32)
        vectors = []
        with Meter("embed", len(unique), "text") as meter:
            for start in range(0, len(unique), self._batch_size):
                vectors.append(self._batch(unique[start : start + self._batch_size]))
                meter.advance(len(vectors[-1]))
        found = np.concatenate(vectors)
        row_of = {text: row for row, text in enumerate(unique)}
        return found[[row_of[text] for text in texts]]

    @torch.inference_mode()
    def _batch(self, texts: Sequence[str]) -> NDArray[np.float32]:
        inputs = self._tokenizer(
            [self._prefix + text for text in texts],
            padding=True,
            truncation=True,
            max_length=self._max_length,
            return_tensors="pt",
        ).to(self._device)
        hidden = self._model(**inputs).last_hidden_state  # [B, T, D]
        mask = inputs["attention_mask"].unsqueeze(-1)
        pooled = (hidden * mask).sum(1) / mask.sum(1)
        return torch.nn.functional.normalize(pooled, dim=1).cpu().numpy()
