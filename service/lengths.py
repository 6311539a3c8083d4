"""How many tokens a request has, guessed from its bytes before anything is tokenised.

Bytes of UTF-8, since they tell more than characters: with the packaged encoder's tokeniser, queries in ten languages
have 0.21 (Arabic) to 0.30 (Korean) tokens a byte, and 0.25 (Portuguese) to 0.74 (Korean) a character.
"""

from collections.abc import Sequence

from relevance.tasks import Pair
from relevance.tokenization import TokenizedPair

FIRST_GUESS = 0.25  # tokens a byte
MEMORY_BYTES = 50_000  # how many bytes the average is over


class Lengths:
    """Tokens a byte of late. A pair that was cut had more than can be seen, so it counts only where that is news."""

    def __init__(self, overhead: int, max_length: int) -> None:
        self._overhead, self._max_length = overhead, max_length
        self._tokens_a_byte = FIRST_GUESS

    def estimate(self, pairs: Sequence[Pair]) -> int:
        """Return about how many tokens pairs have, special ones included."""
        rate, most = self._tokens_a_byte, self._max_length - self._overhead
        return sum([self._overhead + min(most, int(rate * _bytes(pair))) for pair in pairs])

    def learn(self, pairs: Sequence[Pair], tokenized: Sequence[TokenizedPair]) -> None:
        """Take in what pairs have had."""
        rate, most = self._tokens_a_byte, self._max_length - self._overhead
        seen = [
            (size, len(ids.input_ids) - self._overhead)
            for size, ids in zip(map(_bytes, pairs), tokenized, strict=True)
            if not ids.truncated or rate * size < most
        ]
        if total := sum([size for size, _ in seen]):
            tokens = sum([count for _, count in seen])
            self._tokens_a_byte += (tokens / total - rate) * total / (total + MEMORY_BYTES)


def _bytes(pair: Pair) -> int:
    return _size(pair.query) + _size(pair.candidate)


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())
