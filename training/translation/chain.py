"""Several translators in order of preference, with a cache in front of each."""

from collections.abc import Sequence
from dataclasses import dataclass

from training.data.disk_cache import DiskCache
from training.endpoint.budget import Cost
from training.endpoint.errors import BudgetSpentError, StoppedError
from training.translation.backends.translator import Translator


@dataclass(frozen=True, slots=True)
class Translation:
    """A translation and the name of the translator that gave it."""

    text: str
    translator: str


class TranslatorChain:
    """Asks each translator for the texts that those before it could not translate; cached texts are not sent again."""

    def __init__(self, translators: Sequence[Translator], cache: DiskCache | None = None) -> None:
        self._translators, self._cache = list(translators), cache
        self.names = [translator.name for translator in translators]
        self.cache_hits = 0
        self.asked = 0
        self.spent: str | None = None

    @property
    def cost(self) -> Cost:
        """What all translators cost so far."""
        return sum((translator.cost for translator in self._translators), Cost())

    def supports(self, source: str, target: str) -> bool:
        """Whether any translator knows the two languages."""
        return any(translator.supports(source, target) for translator in self._translators)

    def translate(
        self, texts: Sequence[str], source: str, target: str, *, keep_at_budget: bool = False
    ) -> dict[str, Translation]:
        """Return the translations of those texts that have one.

        Raises StoppedError, which names the cache of the finished work, if a translator cannot go on. With
        `keep_at_budget` a spent budget is no error: `spent` then holds the reason, and finished texts are returned.
        """
        found: dict[str, Translation] = {}
        for translator in self._translators:
            left = [text for text in dict.fromkeys(texts) if text not in found]
            if not left or not translator.supports(source, target):
                continue
            answers = self._cached(translator, left, source, target)
            self.cache_hits += len(answers)
            unknown = [text for text in left if text not in answers]
            for start in range(0, len(unknown), translator.batch_size):
                batch = unknown[start : start + translator.batch_size]
                try:
                    answers |= self._ask(translator, batch, source, target)
                except BudgetSpentError as error:
                    if not keep_at_budget:
                        raise
                    self.spent = str(error)
                    answers |= {batch[n]: text for n, text in error.done.items()}
                    break
            found |= {text: Translation(answer, translator.name) for text, answer in answers.items() if answer}
        return found

    def _cached(self, translator: Translator, texts: list[str], source: str, target: str) -> dict[str, str | None]:
        if self._cache is None or translator.key is None:
            return {}
        return self._cache.get((translator.key, source, target), texts)

    def _ask(self, translator: Translator, texts: list[str], source: str, target: str) -> dict[str, str | None]:
        """Return the answers of one call and cache them, also those that came before an error."""
        self.asked += len(texts)
        stopped = None
        try:
            answers = dict(zip(texts, translator.translate(texts, source, target), strict=True))
        except StoppedError as error:
            stopped = error
            answers = {texts[n]: text for n, text in error.done.items()}
        if self._cache is not None and translator.key is not None:
            self._cache.put((translator.key, source, target), answers)
        if stopped is not None:
            raise type(stopped)(f"{stopped}; {self._where()}", stopped.done) from stopped
        return answers

    def _where(self) -> str:
        if self._cache is None:
            return "nothing is kept, since no cache was given"
        return f"{len(self._cache)} translations are kept in {self._cache.path}: the same command goes on from there"
