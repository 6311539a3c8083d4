"""The interface of translators. Knows no backend."""

from collections.abc import Sequence
from typing import Protocol

from training.endpoint.budget import Cost


class Translator(Protocol):
    """Turns short texts of one language into another.

    `name` goes into the provenance of rows and into reports. `key` is the identity under which translations are cached:
    translators with the same key give the same translations; None switches the cache off, since asking again is free.
    `batch_size` is the best number of texts for one call, and the most that a killed process loses; other numbers work
    too. `cost` is the cost of all calls so far.
    """

    name: str
    key: str | None
    batch_size: int
    cost: Cost

    def supports(self, source: str, target: str) -> bool:
        """Whether texts can be translated from language `source` into `target` at all."""

    def translate(self, texts: Sequence[str], source: str, target: str) -> list[str | None]:
        """Return one translation a text, in order; None where this text cannot be translated.

        Raises StoppedError, with the finished texts, if the backend fails as a whole.
        """
