"""Which split each group of rows goes to, so that every stratum is shared out by the fractions."""

import math
import random
from array import array
from collections import Counter
from collections.abc import Collection, Mapping

import numpy as np
from numpy.typing import NDArray

from relevance.errors import InputError
from relevance.languages import chosen_languages
from training.data.splitting.group_table import Counts, Groups, Stratum

TRAIN = "train"
_BLOCK = 65_536  # groups


def assign(
    groups: Groups, fractions: Mapping[str, float], held_out_languages: Collection[str], seed: int
) -> NDArray[np.int8]:
    """Return the split [G] of each group, as its number in `fractions`.

    Groups are shuffled by `seed` and sorted by size, largest first. Each goes to the split whose chi-square distance
    from its target counts grows least. Targets are set for every stratum and for all rows: rare strata round to the
    largest split, and without the second target the other splits would be too small. InputError as `split_pairs`.
    """
    check_fractions(fractions)
    totals = groups.totals()
    held_out = _held_out(totals, held_out_languages, fractions)
    targets = _targets(totals, fractions, held_out)
    order = array("i", range(len(groups)))
    random.Random(seed).shuffle(order)
    shuffled = np.frombuffer(order, dtype=np.int32)
    sizes = np.array([sum(count for _, count in counts) for counts in groups.counts], dtype=np.int64)
    keys = np.arange(len(groups))  # by size, then as shuffled: 8 bytes a group, which sorting by index would double
    for start in range(0, len(keys), _BLOCK):
        block = slice(start, start + _BLOCK)
        keys[block] -= sizes[groups.kinds[shuffled[block]]] << 32
    keys.sort()
    names = list(fractions)
    placer = _Placer(targets, held_out)
    placed = np.empty(len(groups), dtype=np.int8)
    for start in range(0, len(keys), _BLOCK):
        block = shuffled[keys[start : start + _BLOCK] & 0xFFFFFFFF]
        kinds = groups.kinds[block].tolist()
        placed[block] = [names.index(placer.place(groups.counts[kind], int(sizes[kind]))) for kind in kinds]
    for name, count in zip(fractions, np.bincount(placed, minlength=len(fractions)).tolist(), strict=True):
        if not count:
            raise InputError(
                f"split {name!r} (fraction {fractions[name]:g}) gets no row of {len(groups)} different queries; "
                "expected more queries or a larger fraction"
            )
    return placed


class _Placer:
    """Puts groups into splits, one after the other."""

    def __init__(self, targets: dict[str, dict[Stratum, float]], held_out: frozenset[str]) -> None:
        self._targets, self._held_out = targets, held_out
        self._aims = {name: math.fsum(strata.values()) for name, strata in targets.items()}
        self._held: dict[str, Counter[Stratum]] = {name: Counter() for name in targets}
        self._sizes = dict.fromkeys(targets, 0)

    def place(self, counts: Counts, size: int) -> str:
        """Return the split of a group with these rows by stratum."""
        allowed = _allowed(self._aims, any(language in self._held_out for (language, _), _ in counts))
        name = min(allowed, key=lambda name: self._grown(name, counts, size))
        held = self._held[name]
        for stratum, count in counts:
            held[stratum] += count
        self._sizes[name] += size
        return name

    def _grown(self, name: str, counts: Counts, size: int) -> float:
        held, targets = self._held[name], self._targets[name]
        growth = [_growth(held[stratum], count, targets[stratum]) for stratum, count in counts]
        return math.fsum([*growth, _growth(self._sizes[name], size, self._aims[name])])


def check_fractions(fractions: Mapping[str, float]) -> None:
    """Raise InputError if fractions are not positive or do not sum to 1."""
    for name, fraction in fractions.items():
        if not (math.isfinite(fraction) and fraction > 0):
            raise InputError(f"fraction of split {name!r} is {fraction}; expected a number above 0")
    total = math.fsum(fractions.values())
    if abs(total - 1) > 1e-6:
        raise InputError(f"fractions of the splits {', '.join(fractions) or '(none)'} sum to {total:g}; expected 1")


def _held_out(
    totals: Mapping[Stratum, int], languages: Collection[str], fractions: Mapping[str, float]
) -> frozenset[str]:
    """Return the checked codes of the held-out languages."""
    held_out = frozenset(chosen_languages("held-out language", languages))
    present = {language for language, _ in totals}
    for language in sorted(held_out - present):
        raise InputError(
            f"held-out language {language!r} is not in the rows; expected one of {', '.join(sorted(present)) or 'none'}"
        )
    if held_out and (TRAIN not in fractions or len(fractions) == 1):
        raise InputError(f"splits are {', '.join(fractions)}; expected {TRAIN!r} and another to hold languages out")
    return held_out


def _targets(
    totals: Mapping[Stratum, int], fractions: Mapping[str, float], held_out: frozenset[str]
) -> dict[str, dict[Stratum, float]]:
    """Return the rows that each split should get of each stratum: none in train of a held-out language."""
    targets: dict[str, dict[Stratum, float]] = {name: {} for name in fractions}
    for stratum, total in totals.items():
        shares = _allowed(fractions, stratum[0] in held_out)
        for name, share in shares.items():
            targets[name][stratum] = total * share / math.fsum(shares.values())
    return targets


def _allowed(fractions: Mapping[str, float], is_held_out: bool) -> dict[str, float]:
    return {name: share for name, share in fractions.items() if not (is_held_out and name == TRAIN)}


def _growth(held: int, added: int, target: float) -> float:
    """Return by how much (held - target)^2 / target grows when `added` rows come to those held."""
    return added * (2 * (held - target) + added) / target
