"""Rows that say the same twice, and rows that contradict each other. Knows rows; nothing of how texts were cleaned."""

from collections import defaultdict
from collections.abc import Sequence
from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from relevance.tasks import LabeledPair, query_key

TAGGED_LANGUAGE = "tagged_language"  # the extra that holds the tag a row came with, where cleaning gave it another
_SHOWN = 20


class Contradictions(StrEnum):
    """What becomes of pairs that have both labels. MAJORITY keeps the more frequent label, and none at a tie."""

    KEEP = "keep"
    DROP = "drop"
    MAJORITY = "majority"


class Contradiction(BaseModel):
    """One pair with both labels: how many rows say each."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    query: str
    candidate: str
    positive: int
    negative: int
    ids: tuple[str, ...]


class ContradictionReport(BaseModel):
    """The contradictory pairs (same `query_key` and candidate, either label): `examples` shows the first of them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pairs: int
    rows: int
    ties: int
    dropped: int
    examples: tuple[Contradiction, ...]


def tag_of(row: LabeledPair) -> str:
    """Return the language tag that a row came with, whatever cleaning made of it since."""
    return str(row.extra.get(TAGGED_LANGUAGE, row.pair.language))


def repeats(rows: Sequence[LabeledPair]) -> list[int]:
    """Return the places of rows that repeat an earlier one: same query key, candidate, label and language tag."""
    seen, found = set(), []
    for place, row in enumerate(rows):
        identity = (query_key(row.pair.query), row.pair.candidate, row.label, tag_of(row))
        if identity in seen:
            found.append(place)
        seen.add(identity)
    return found


def contradictions(rows: Sequence[LabeledPair]) -> list[list[int]]:
    """Return the places of the rows of every pair (query key, candidate) that has both labels, in order of rows."""
    places: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for place, row in enumerate(rows):
        places[query_key(row.pair.query), row.pair.candidate].append(place)
    return [group for group in places.values() if len({rows[place].label for place in group}) > 1]


def settle(rows: Sequence[LabeledPair], action: Contradictions) -> tuple[set[int], ContradictionReport]:
    """Return the places of the rows to drop, and the report. Repeated rows are votes: settle before dropping them."""
    groups = contradictions(rows)
    dropped: set[int] = set()
    ties = 0
    for group in groups:
        positive = sum(rows[place].label for place in group)
        is_tie = 2 * positive == len(group)
        ties += is_tie
        if action is Contradictions.DROP or (action is Contradictions.MAJORITY and is_tie):
            dropped |= set(group)
        elif action is Contradictions.MAJORITY:
            dropped |= {place for place in group if rows[place].label != int(2 * positive > len(group))}
    return dropped, ContradictionReport(
        pairs=len(groups),
        rows=sum(map(len, groups)),
        ties=ties,
        dropped=len(dropped),
        examples=tuple(_shown(rows, group) for group in groups[:_SHOWN]),
    )


def _shown(rows: Sequence[LabeledPair], group: Sequence[int]) -> Contradiction:
    first = rows[group[0]].pair
    positive = sum(rows[place].label for place in group)
    return Contradiction(
        query=first.query,
        candidate=first.candidate,
        positive=positive,
        negative=len(group) - positive,
        ids=tuple(rows[place].id for place in group[:_SHOWN]),
    )
