"""The `memory` backend: queries looked up in translation memories and term bases. Whole texts only, never parts.

Never make training rows with a memory of dev or test queries: it would bring these queries into training. The stage
rejects translations that are queries of the dev rows that it is given, but it cannot know of others.
"""

import unicodedata
from collections.abc import Sequence
from pathlib import Path

from relevance.tasks import UNKNOWN_LANGUAGE
from training.data.groups import group_key
from training.endpoint.budget import Cost
from training.translation.backends.memory_files import Unit, units_of


class MemoryTranslator:
    """Looks up the exact text, then its key (ignoring case, white space, entities and compatibility forms).

    Where a memory holds several translations of a text, the first one counts. A text of unknown language (`unk`) is
    looked up in every language of the memory.
    """

    key = None
    batch_size = 4096
    cost = Cost()

    def __init__(self, units: Sequence[Unit], name: str = "memory") -> None:
        self.name = name
        self._exact: dict[tuple[str, str, str], str] = {}
        self._folded: dict[tuple[str, str, str], str] = {}
        self._pairs: set[tuple[str, str]] = set()
        for unit in units:
            self._add(unit)

    @classmethod
    def from_files(cls, paths: Sequence[Path], *, skip_bad: bool = False) -> "MemoryTranslator":
        """Read files as `units_of` does, with its errors and warnings; the first file that has a text wins."""
        return cls(units_of(paths, skip_bad=skip_bad), "memory:" + "+".join(path.name for path in paths))

    def supports(self, source: str, target: str) -> bool:
        """Whether any text of `source` has a translation into `target`."""
        return (source, target) in self._pairs

    def translate(self, texts: Sequence[str], source: str, target: str) -> list[str | None]:
        """Return the translations that the memory holds."""
        return [self._find(text, source, target) for text in texts]

    def _find(self, text: str, source: str, target: str) -> str | None:
        exact = self._exact.get((_composed(text), source, target))
        return exact if exact is not None else self._folded.get((group_key(text), source, target))

    def _add(self, unit: Unit) -> None:
        sources = unit.texts if unit.origin is None else {unit.origin: unit.texts[unit.origin]}
        for source, text in sources.items():
            for target, translation in unit.texts.items():
                if target == source:
                    continue
                for known_as in (source, UNKNOWN_LANGUAGE):
                    self._pairs.add((known_as, target))
                    self._exact.setdefault((_composed(text), known_as, target), translation)
                    self._folded.setdefault((group_key(text), known_as, target), translation)


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", " ".join(text.split()))
