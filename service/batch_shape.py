"""Which shapes a model run may have, on a CPU and on a GPU. Knows neither the scheduler nor the runtime that use it."""

import bisect
import math
from dataclasses import dataclass, replace

MIN_LENGTH_SHARE = 0.95  # of a batch's width: much shorter pairs wait for a batch of their own length


@dataclass(frozen=True, slots=True)
class BatchShape:
    """The limits of a batch.

    `lengths` are the padded lengths in use, ascending; empty means that any length is allowed. A run of up to
    `free_tokens` padded tokens takes as long as a run of one token, so that much padding may be spent to save a run.
    """

    max_tokens: int
    lengths: tuple[int, ...] = ()
    free_tokens: int = 0

    def limited_to(self, max_length: int) -> "BatchShape":
        """Return the shape for a model that reads at most `max_length` tokens of a pair."""
        if not self.lengths:
            return self
        return replace(self, lengths=(*(length for length in self.lengths if length < max_length), max_length))

    def padded_length(self, length: int) -> int:
        """Return the width of a batch whose longest pair has `length` tokens."""
        place = bisect.bisect_left(self.lengths, length)
        return self.lengths[place] if place < len(self.lengths) else length

    def min_length(self, width: int) -> int:
        """Return the shortest pair, in tokens, that belongs into a batch of this width."""
        if not self.lengths:
            return math.ceil(MIN_LENGTH_SHARE * width)
        place = bisect.bisect_left(self.lengths, width)
        return self.lengths[place - 1] + 1 if place else 1

    def max_rows(self, width: int) -> int:
        """Return how many rows of this width fit; at least one."""
        return max(1, self.max_tokens // width)


# On a CPU the time of a run grows with every padded token: exact lengths, and little padding is free. On a GPU all
# small runs take the same time, and few lengths keep the number of shapes small. docs/serving.md has measurements.
CPU_SHAPE = BatchShape(512, free_tokens=32)
# OpenVINO makes kernels for each new shape of a batch, which takes time and memory: fewer lengths make fewer shapes.
OPENVINO_SHAPE = BatchShape(
    512,
    (*range(8, 44, 4), *range(48, 72, 8), *(80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512)),
    free_tokens=32,
)
GPU_SHAPE = BatchShape(16_384, (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512), free_tokens=1024)
