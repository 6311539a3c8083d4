"""How many tokens a request has, guessed from its characters before anything is tokenised."""

from collections.abc import Sequence

from relevance.tasks import Pair
from relevance.tokenization import TokenizedPair

FIRST_GUESS = 0.25  # tokens a character
MEMORY_CHARS = 50_000  # how many characters the average is over


class Lengths:
    """Tokens a character of late, over the texts that were not cut."""

    def __init__(self, overhead: int, max_length: int) -> None:
        self._overhead, self._max_length = overhead, max_length
        self._tokens_a_char = FIRST_GUESS

    def estimate(self, pairs: Sequence[Pair]) -> int:
        """Return about how many tokens pairs have, special ones included."""
        rate, most = self._tokens_a_char, self._max_length - self._overhead
        return sum([self._overhead + min(most, int(rate * _chars(pair))) for pair in pairs])

    def learn(self, pairs: Sequence[Pair], tokenized: Sequence[TokenizedPair]) -> None:
        """Take in what pairs have had."""
        whole = [
            (_chars(pair), len(ids.input_ids)) for pair, ids in zip(pairs, tokenized, strict=True) if not ids.truncated
        ]
        if chars := sum([each for each, _ in whole]):
            tokens = sum([each for _, each in whole]) - self._overhead * len(whole)
            self._tokens_a_char += (tokens / chars - self._tokens_a_char) * chars / (chars + MEMORY_CHARS)


def _chars(pair: Pair) -> int:
    return len(pair.query) + len(pair.candidate)
