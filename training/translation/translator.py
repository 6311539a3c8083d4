"""The interface of translators, their cost, and their errors. Knows no backend."""

from collections.abc import Mapping, Sequence
from typing import Protocol, Self

from relevance.errors import MachineError
from relevance.storage.strict import StrictModel


class Cost(StrictModel):
    """What translating cost: requests, tokens in and out, and money in the unit of the prices (0 where none are set).

    `charged_tokens` is what counts against a budget: tokens that the server reported, and for requests whose answer
    was lost the most that they can have used.
    """

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    charged_tokens: int = 0
    money: float = 0.0

    def __add__(self, other: Self) -> "Cost":
        """Return the sum, field by field."""
        return Cost(**{name: getattr(self, name) + getattr(other, name) for name in type(self).model_fields})


class TranslationStoppedError(MachineError):
    """A translator cannot go on. `done` holds what it finished of the call in hand: index -> translation or None."""

    def __init__(self, message: str, done: Mapping[int, str | None] | None = None) -> None:
        super().__init__(message)
        self.done = dict(done or {})


class BudgetSpentError(TranslationStoppedError):
    """The budget that the user set does not cover the next request."""


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

        Raises TranslationStoppedError, with the finished texts, if the backend fails as a whole.
        """
