"""What stages need of a model to compare texts. The one over an encoder is in `encoder_embedder`, which needs torch."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Embedder(Protocol):
    """Turns texts into vectors whose cosine says how alike their meanings are, across languages."""

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one vector of length 1 a text: float32 [N, D]."""
