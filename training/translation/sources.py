"""The rows that are translated: how many there are by language and label, and their order for one target.

Rows stay on disk. For each target they are written in the order in which they are tried, by language and label, so
that a row is read once, when its turn comes.
"""

import functools
import random
from array import array
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from relevance.tasks import LabeledPair
from training.data.extras import is_made
from training.data.groups import group_key
from training.data.stored.batches import SCHEMA, in_chunks, mentions, to_rows
from training.data.stored.rows import StoredRows
from training.data.stored.spool import Spool, buckets_for
from training.data.stored.text_hashes import TextHashes
from training.translation.known import KnownPairs
from training.translation.quota import Stratum

_TURNS = SCHEMA.append(pa.field("place", pa.int64())).append(pa.field("turn", pa.int64()))
_READ_ROWS = 1024  # of a language and label at once
_KEPT_KEYS = 1 << 16
_MADE, _HELD_OUT = -1, -2  # in place of a number of a language and label


@dataclass(frozen=True, slots=True)
class Source:
    """A row to translate, and its place among all rows."""

    place: int
    row: LabeledPair


class SourceRows:
    """The given rows. In memory are 2 bytes a row, and 12 more a row to translate while `in_turn` orders them."""

    def __init__(self, rows: StoredRows, held_out: TextHashes, known: KnownPairs) -> None:
        """Go through all rows once and note their pairs. Keys in `held_out` are those of queries to leave alone."""
        self.rows = rows
        self.originals: Counter[str] = Counter()  # rows that no stage made, by language
        self.eligible: Counter[Stratum] = Counter()  # those of them whose query is not held out
        self.held_out = 0
        self._strata: dict[Stratum, int] = {}
        self._codes = np.empty(len(rows), dtype=np.int16)
        key_of, place = functools.lru_cache(_KEPT_KEYS)(group_key), 0
        for batch in rows.batches():
            names = ("query", "candidate", "language", "label")
            columns = (batch.column(name).to_pylist() for name in names)
            for query, candidate, language, label, is_own in zip(*columns, _is_original(batch), strict=True):
                key = key_of(query)
                known.note(key, candidate, language)
                is_held = key in held_out
                self.held_out += is_held
                self.originals[language] += bool(is_own)
                code = _HELD_OUT if is_held else _MADE
                if is_own and not is_held:
                    self.eligible[language, label] += 1
                    code = self._strata.setdefault((language, label), len(self._strata))
                self._codes[place] = code
                place += 1
        self.originals = +self.originals

    def queries(self) -> Iterator[tuple[str, str]]:
        """Yield the query and the language of each original row."""
        for batch in self.rows.batches():
            columns = (batch.column(name).to_pylist() for name in ("query", "language"))
            for query, language, is_own in zip(*columns, _is_original(batch), strict=True):
                if is_own:
                    yield query, language

    def in_turn(self, languages: Collection[str], seed: str) -> "RowsInTurn":
        """Return the eligible rows of some languages, in an order drawn by the seed."""
        strata = [stratum for stratum in self._strata if stratum[0] in languages]
        turns: dict[int, NDArray[np.int32]] = {}
        starts: dict[int, int] = {}
        start = 0
        for language, label in strata:
            code, count = self._strata[language, label], self.eligible[language, label]
            turns[code], starts[code] = _turns(count, f"{seed}/{language}/{label}"), start
            start += count
        by_turn = Spool(_TURNS, buckets_for(start))
        span, place = max(-(-start // by_turn.buckets), 1), 0
        for batch in self.rows.batches():
            codes, found = self._codes[place : place + batch.num_rows], np.full(batch.num_rows, -1, dtype=np.int64)
            for code in turns.keys() & set(np.unique(codes).tolist()):
                at = np.flatnonzero(codes == code)
                found[at] = starts[code] + turns[code][: len(at)]
                turns[code] = turns[code][len(at) :]
            placed = batch.append_column("place", pa.array(np.arange(place, place + batch.num_rows)))
            placed = placed.append_column("turn", pa.array(found)).filter(pa.array(found >= 0))
            by_turn.scatter(placed, placed.column("turn").to_numpy() // span)
            place += batch.num_rows
        return RowsInTurn(by_turn, [(each, starts[self._strata[each]]) for each in strata])


class RowsInTurn:
    """The rows of each language and label in the order in which they are tried."""

    def __init__(self, by_turn: Spool, starts: Sequence[tuple[Stratum, int]]) -> None:
        """Take rows (with `turn`) in buckets by turn, and the first turn of each language and label, ascending."""
        self._rows = Spool(_TURNS, max(len(starts), 1))
        first = np.array([start for _, start in starts], dtype=np.int64)
        for bucket in range(by_turn.buckets):
            some = by_turn.whole(bucket).sort_by("turn")
            ends = np.append(np.searchsorted(some.column("turn").to_numpy(), first), some.num_rows)
            for number in range(len(starts)):
                part = some.slice(ends[number], ends[number + 1] - ends[number])
                for start in range(0, part.num_rows, _READ_ROWS):
                    self._rows.add(part.slice(start, _READ_ROWS), number)
        self._left = {stratum: self._read(number) for number, (stratum, _) in enumerate(starts)}

    def take(self, stratum: Stratum, count: int) -> list[Source]:
        """Return the next rows of a language and label."""
        return list(islice(self._left[stratum], count))

    def _read(self, number: int) -> Iterator[Source]:
        for batch in self._rows.batches(number):
            yield from map(Source, batch.column("place").to_pylist(), to_rows(batch))


def _turns(count: int, seed: str) -> NDArray[np.int32]:
    """Return when each of so many rows is tried [count]: the last row of the shuffled ones comes first."""
    order = array("i", range(count))
    random.Random(seed).shuffle(order)
    turns = np.empty(count, dtype=np.int32)
    turns[np.frombuffer(order, dtype=np.int32)] = np.arange(count - 1, -1, -1, dtype=np.int32)
    return turns


def _is_original(batch: pa.RecordBatch) -> NDArray[np.bool_]:
    """Return True [N] for rows that no stage made."""
    found = np.ones(batch.num_rows, dtype=bool)
    some = np.flatnonzero(mentions(batch, "source"))
    for chunk in in_chunks(some.tolist()):
        found[chunk] = [not is_made(row) for row in to_rows(batch.take(pa.array(chunk)))]
    return found
