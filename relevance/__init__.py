"""The shared kernel: the words, formats and the scorer that training, export and service have in common.

Must not know torch, the web or the packages above it. `relevance.Scorer`, which needs onnxruntime, is imported late.
"""

from typing import TYPE_CHECKING, Any

from relevance.telemetry import turn_off_telemetry

if TYPE_CHECKING:
    from relevance.scorer import Scorer

__all__ = ["Scorer"]

turn_off_telemetry()


def __getattr__(name: str) -> Any:
    if name != "Scorer":
        raise AttributeError(f"module 'relevance' has no attribute {name!r}")
    from relevance.scorer import Scorer

    return Scorer
