"""The recent throughput of a busy model, from the durations of its runs. Knows no jobs and reads no clock."""

MEMORY_SECONDS = 2.0  # of model time; older runs fade


class Throughput:
    """Tokens per second over the last seconds of model time. Long runs weigh more than short ones.

    Meant for runs that show what the model can do, not for a single pair while nothing else waits. One run weighs at
    most MEMORY_SECONDS, so that a machine that was suspended is soon forgotten.
    """

    def __init__(self) -> None:
        self._tokens = self._padded = self._seconds = 0.0

    def add(self, tokens: int, padded_tokens: int, seconds: float) -> None:
        """Add one model run."""
        seconds = max(seconds, 1e-9)
        weight = min(1.0, MEMORY_SECONDS / seconds)
        keep = MEMORY_SECONDS / (MEMORY_SECONDS + weight * seconds) if self._seconds >= MEMORY_SECONDS else 1.0
        self._tokens = self._tokens * keep + weight * tokens
        self._padded = self._padded * keep + weight * padded_tokens
        self._seconds = self._seconds * keep + weight * seconds

    @property
    def tokens_per_second(self) -> float:
        """Tokens without padding per second of model time; 0 before the first run."""
        return self._tokens / self._seconds if self._seconds else 0.0

    @property
    def padded_tokens_per_second(self) -> float:
        """Tokens with padding per second of model time; 0 before the first run."""
        return self._padded / self._seconds if self._seconds else 0.0
