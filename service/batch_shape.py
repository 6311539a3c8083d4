"""Which shapes a model run may have, on a CPU and on a GPU. Knows neither the scheduler nor the runtime that use it."""

import bisect
import math
from dataclasses import dataclass, replace

NEAR = 0.95  # of a batch's width: much shorter pairs wait for a batch of their own length


@dataclass(frozen=True, slots=True)
class Shape:
    """What a batch may look like.

    `lengths` are the padded lengths in use, ascending (none: every length is its own). A run costs `free_tokens` of
    padded tokens whatever is in it; so much may be wasted to save another run.
    """

    max_tokens: int
    lengths: tuple[int, ...] = ()
    free_tokens: int = 0

    def within(self, max_length: int) -> "Shape":
        """Return the shape for a model that reads pairs of at most `max_length` tokens."""
        if not self.lengths:
            return self
        return replace(self, lengths=(*(length for length in self.lengths if length < max_length), max_length))

    def padded(self, length: int) -> int:
        """Return the length that a pair of `length` tokens is padded to where it sets the width."""
        place = bisect.bisect_left(self.lengths, length)
        return self.lengths[place] if place < len(self.lengths) else length

    def least(self, width: int) -> int:
        """Return the tokens from which on a pair is about as long as a batch of this width is wide."""
        if not self.lengths:
            return math.ceil(NEAR * width)
        place = bisect.bisect_left(self.lengths, width)
        return self.lengths[place - 1] + 1 if place else 1

    def rows(self, width: int) -> int:
        """Return how many rows of a width fit; one at least."""
        return max(1, self.max_tokens // width)


# On a CPU the time of a run grows with its padded tokens from the first on: exact lengths, and little is free. On a GPU
# small runs all take the same time, and a few lengths keep the number of shapes small. docs/serving.md has figures.
CPU_SHAPE = Shape(512, free_tokens=32)
GPU_SHAPE = Shape(16_384, (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512), free_tokens=1024)
