"""Token ids of many pairs as columns: each text's ids are held once, and a batch is padded without a list a pair.

For scoring whole shards. A request of the service, whose pairs meet those of others, has a `TokenizedPair` each
(relevance.text.tokenization). Both give the same arrays.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray

from relevance.text.tokenization import PairTokenizer

Places = NDArray[np.int64]
Ids = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class TokenColumns:
    """The token ids of N pairs, of five parts each: prefix, query, middle, candidate, suffix.

    `pool` int32 holds the ids of the three special parts and of every different text; `starts` and `sizes` [N, 5] are
    the places of a pair's parts in it. `truncated` bool [N]; `features` float32 [N, F].
    """

    tokenizer: PairTokenizer
    pool: Ids
    starts: Places
    sizes: Places
    truncated: NDArray[np.bool_]
    features: NDArray[np.float32]

    @classmethod
    def join(
        cls, tokenizer: PairTokenizer, texts: Sequence[Ids], queries: Places, candidates: Places, features: np.ndarray
    ) -> Self:
        """Join the ids of texts into pairs of at most `max_length` tokens, as `PairTokenizer.join` does.

        `queries` and `candidates` [N] are the places of each pair's texts in `texts`.
        """
        t = tokenizer.template
        special = [np.array(part, dtype=np.int32) for part in (t.prefix, t.middle, t.suffix)]
        lengths = np.array([len(each) for each in (*special, *texts)], dtype=np.int64)
        begins = np.cumsum(lengths) - lengths
        first, second = lengths[3:][queries], lengths[3:][candidates]
        kept_first, kept_second = tokenizer.kept_columns(first, second)
        starts, sizes = np.empty((len(queries), 5), dtype=np.int64), np.empty((len(queries), 5), dtype=np.int64)
        starts[:, 0::2], sizes[:, 0::2] = begins[:3], lengths[:3]
        starts[:, 1], sizes[:, 1] = begins[3:][queries], kept_first
        starts[:, 3], sizes[:, 3] = begins[3:][candidates], kept_second
        truncated = kept_first + kept_second < first + second
        return cls(tokenizer, np.concatenate([*special, *texts]), starts, sizes, truncated, features)

    def __len__(self) -> int:
        return len(self.starts)

    @cached_property
    def lengths(self) -> Places:
        """The tokens [N] of each pair, special tokens included."""
        found: Places = self.sizes.sum(axis=1)
        return found

    def collate(self, places: Sequence[int]) -> dict[str, np.ndarray]:
        """Return the arrays of the pairs at some places, as `PairTokenizer.collate` gives them."""
        lengths = self.lengths[places]
        kept = np.arange(int(lengths.max())) < lengths[:, None]
        ids = np.full(kept.shape, self.tokenizer.pad_id, dtype=np.int64)
        types = np.zeros(kept.shape, dtype=np.int64)
        ids[kept], of_kept = self.flat(places)
        if of_kept is not None:
            types[kept] = of_kept
        masks = kept.astype(np.int64)
        return {
            "input_ids": ids,
            "attention_mask": masks,
            "token_type_ids": types,
            "features": self.features[places],
        }

    def flat(self, places: Sequence[int] | Places) -> tuple[Ids, Places | None]:
        """Return the token ids of the pairs at some places, one pair after the other, and their token type ids.

        None where all types are 0.
        """
        sizes = self.sizes[places].ravel()
        ends = np.cumsum(sizes)
        source = np.repeat(self.starts[places].ravel() - ends + sizes, sizes) + np.arange(ends[-1])
        if self._special_types is None:
            return self.pool[source], None
        t = self.tokenizer.template
        of_texts = np.tile(np.array([0, t.query_type, 0, t.candidate_type, 0]), len(sizes) // 5)
        return self.pool[source], self._special_types[source] + np.repeat(of_texts, sizes)

    @cached_property
    def _special_types(self) -> NDArray[np.int64] | None:
        """The token type ids of the pool's special tokens, 0 for texts; None where all types are 0."""
        t = self.tokenizer.template
        if not any(t.types):
            return None
        found = np.zeros(len(self.pool), dtype=np.int64)
        special = (*t.prefix_types, *t.middle_types, *t.suffix_types)
        found[: len(special)] = special
        return found
