"""Team-draft interleaving: one list of two rankings, so that clicks say which ranking users prefer.

Radlinski, Kurup, Joachims 2008, How does clickthrough data reflect retrieval quality? In each round a coin says which
team picks first; then each team picks its best candidate that is not in the list. The coin here is a hash of the
request, so that a repeated request gets the same list.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from relevance.feedback import Team

BITS = 512  # of one hash: coins for as many rounds


@dataclass(frozen=True, slots=True)
class Draft:
    """An interleaved list: the places of its candidates, best first, and whose pick each of them is."""

    order: list[int]
    teams: list[Team]


def team_draft(active: Sequence[int], challenger: Sequence[int], seed: str) -> Draft:
    """Interleave two rankings of the same candidates, given as places, best first. Equal seeds give equal lists."""
    order: list[int] = []
    teams: list[Team] = []
    taken: set[int] = set()
    left = {Team.ACTIVE: iter(active), Team.CHALLENGER: iter(challenger)}
    coins = _coins(seed)
    while len(order) < len(active):
        first = Team.ACTIVE if next(coins) else Team.CHALLENGER
        second = Team.CHALLENGER if first is Team.ACTIVE else Team.ACTIVE
        for team in (first, second):
            pick = next((place for place in left[team] if place not in taken), None)
            if pick is not None:
                taken.add(pick)
                order.append(pick)
                teams.append(team)
    return Draft(order, teams)


def _coins(seed: str) -> Iterator[bool]:
    """Yield fair coins, without an end."""
    number = 0
    while True:
        salted = f"{number} {seed}".encode(errors="surrogatepass")
        bits = int.from_bytes(hashlib.blake2b(salted, person=b"team draft").digest(), "big")
        yield from (bool(bits >> bit & 1) for bit in range(BITS))
        number += 1
