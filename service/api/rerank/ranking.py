"""What the answers of all rerankers' shapes are made of: the order of the results, their values, and the headers."""

import json
from typing import Any

import numpy as np
from starlette.responses import Response

from service.scoring.served_model import Scored, ServedModel


def best_first(scored: Scored, model: ServedModel, top_n: int | None) -> list[int]:
    """Return the places of the best `top_n` scores; equal scores keep the order of the request.

    Pairs without a score are left out. Scores that differ too little for a float are ordered by their logits.
    """
    calibrated = model.manifest.calibration.scale * scored.logits.astype(np.float64)
    order: list[int] = np.lexsort((-calibrated, -scored.scores)).tolist()  # NaN comes last
    return order[: len(order) - len(scored.unscored)][:top_n]


def values(scored: Scored, raw: bool) -> list[float]:
    """Return the scores, or the model's own logits."""
    found: list[float] = (scored.logits if raw else scored.scores).tolist()
    return found


def answer(content: Any, model: ServedModel, scored: Scored, interleaved: str | None = None) -> Response:
    """Return an answer, with headers for what these shapes have no key for; `X-Compute-Tokens` is TEI's name."""
    headers = {
        "X-Compute-Tokens": str(scored.tokens),
        "X-Truncated-Pairs": str(len(scored.truncated)),
        "X-Unscored-Pairs": str(len(scored.unscored)),
        "X-Model-Version": model.manifest.version,
    } | ({} if interleaved is None else {"X-Interleaved": interleaved})
    return Response(json.dumps(content), headers=headers, media_type="application/json")
