"""Split labelled pairs so that no query is in two splits, and write the files of splits.

A query with all its candidates goes to one split; `query_key` ignores case and white space. The unit can be a larger
group (a query with its translations, see training.data.groups). Every pair of language and label is distributed over
the splits by the fractions, as closely as whole groups allow.
"""

import math
import random
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from relevance.errors import InputError
from relevance.languages import chosen_languages
from relevance.tasks import LabeledPair, Task, query_key
from training.data.fields import QUERY_FIELD, json_id
from training.data.files.writers import write_file

TRAIN = "train"
DEFAULT_FRACTIONS: Mapping[str, float] = MappingProxyType({TRAIN: 0.8, "dev": 0.1, "test": 0.1})


_Stratum = tuple[str, int]  # language, label
_Groups = dict[str, Counter[_Stratum]]  # group -> rows by stratum


@dataclass(frozen=True, slots=True)
class SplitSummary:
    """Counts of one split: rows, distinct queries, the share of positive labels and the rows by language."""

    name: str
    rows: int
    queries: int
    positive_share: float
    languages: dict[str, int]


def split_pairs(
    rows: Sequence[LabeledPair],
    *,
    fractions: Mapping[str, float] = DEFAULT_FRACTIONS,
    seed: int,
    held_out_languages: Collection[str] = (),
    groups: Sequence[str] | None = None,
) -> dict[str, list[LabeledPair]]:
    """Return the rows by split, in their order. The result depends on the rows and the seed, not on the order of rows.

    `groups` [N] is the group id of each row; the default is the key of its query. Groups are shuffled by `seed` and
    sorted by size, largest first. Each goes to the split whose chi-square distance from its target counts grows least.
    Targets are set for every (language, label) and for all rows: rare strata round to the largest split, and without
    the second target the other splits would be too small. A group with a held-out language is never in `train`.

    Raises InputError if fractions are not positive or do not sum to 1, if a held-out language is not in the rows or
    leaves no split for its rows, or if a split gets no row because there are too few queries.
    """
    _check_fractions(fractions)
    names = [query_key(row.pair.query) for row in rows] if groups is None else groups
    counts = _groups(rows, names)
    held_out = _held_out(counts, held_out_languages, fractions)
    placed = _assign(counts, _targets(counts, fractions, held_out), held_out, seed)
    splits: dict[str, list[LabeledPair]] = {name: [] for name in fractions}
    for row, group in zip(rows, names, strict=True):
        splits[placed[group]].append(row)
    for name, members in splits.items():
        if not members:
            raise InputError(
                f"split {name!r} (fraction {fractions[name]:g}) gets no row of {len(counts)} different queries; "
                "expected more queries or a larger fraction"
            )
    return splits


def draw(rows: Sequence[LabeledPair], most: int | None, seed: int) -> list[LabeledPair]:
    """Return a random sample of at most `most` rows (None: all), in their order."""
    if most is None or most >= len(rows):
        return list(rows)
    return [rows[i] for i in sorted(random.Random(seed).sample(range(len(rows)), most))]


def leaks(a: Iterable[LabeledPair], b: Iterable[LabeledPair]) -> list[str]:
    """Return the queries of `a` that are also in `b`, regardless of case and white space.

    Each query is returned once, as `a` writes it first.
    """
    others = {query_key(row.pair.query) for row in b}
    found: dict[str, str] = {}
    for row in a:
        key = query_key(row.pair.query)
        if key in others:
            found.setdefault(key, row.pair.query)
    return list(found.values())


def summarize(splits: Mapping[str, Sequence[LabeledPair]]) -> list[SplitSummary]:
    """Return one summary for each split, in order. The share of positives of an empty split is NaN."""
    return [
        SplitSummary(
            name=name,
            rows=len(rows),
            queries=len({query_key(row.pair.query) for row in rows}),
            positive_share=sum(row.label for row in rows) / len(rows) if rows else math.nan,
            languages=dict(sorted(Counter(row.pair.language for row in rows).items())),
        )
        for name, rows in splits.items()
    ]


def write_pairs(path: Path | str, rows: Iterable[LabeledPair], task: Task) -> None:
    """Write rows atomically, in the format of the file's name. `read_pairs` reads the same rows back.

    JSON lines are in the AnalytiCup's format. Ids that are integers are written as numbers. InputError if an extra has
    the name of a field.
    """
    write_file(Path(path), (_record(row, task) for row in rows))


def _record(row: LabeledPair, task: Task) -> dict[str, Any]:
    record = {
        "id": json_id(row.id),
        "task": task.upper(),
        "language": row.pair.language,
        QUERY_FIELD: row.pair.query,
        task.candidate_field: row.pair.candidate,
        "label": row.label,
    }
    for name in row.extra:
        if name in record:
            raise InputError(f"row {row.id!r}: extra {name!r} has the name of a field; expected another name")
    return record | row.extra


def _check_fractions(fractions: Mapping[str, float]) -> None:
    for name, fraction in fractions.items():
        if not (math.isfinite(fraction) and fraction > 0):
            raise InputError(f"fraction of split {name!r} is {fraction}; expected a number above 0")
    total = math.fsum(fractions.values())
    if abs(total - 1) > 1e-6:
        raise InputError(f"fractions of the splits {', '.join(fractions) or '(none)'} sum to {total:g}; expected 1")


def _groups(rows: Sequence[LabeledPair], names: Sequence[str]) -> _Groups:
    groups: defaultdict[str, Counter[_Stratum]] = defaultdict(Counter)
    for row, name in zip(rows, names, strict=True):
        groups[name][row.pair.language, row.label] += 1
    # Sorted, so that the shuffle does not depend on the order of the rows.
    return {key: groups[key] for key in sorted(groups)}


def _held_out(groups: _Groups, languages: Collection[str], fractions: Mapping[str, float]) -> frozenset[str]:
    """Return the checked codes of the held-out languages."""
    held_out = frozenset(chosen_languages("held-out language", languages))
    present = {language for counts in groups.values() for language, _ in counts}
    for language in sorted(held_out - present):
        raise InputError(
            f"held-out language {language!r} is not in the rows; expected one of {', '.join(sorted(present)) or 'none'}"
        )
    if held_out and (TRAIN not in fractions or len(fractions) == 1):
        raise InputError(f"splits are {', '.join(fractions)}; expected {TRAIN!r} and another to hold languages out")
    return held_out


def _targets(
    groups: _Groups, fractions: Mapping[str, float], held_out: frozenset[str]
) -> dict[str, dict[_Stratum, float]]:
    """Return the rows that each split should get of each stratum: none in train of a held-out language."""
    totals: Counter[_Stratum] = Counter()
    for counts in groups.values():
        totals.update(counts)
    targets: dict[str, dict[_Stratum, float]] = {name: {} for name in fractions}
    for stratum, total in totals.items():
        shares = _allowed(fractions, stratum[0] in held_out)
        for name, share in shares.items():
            targets[name][stratum] = total * share / math.fsum(shares.values())
    return targets


def _allowed(fractions: Mapping[str, float], is_held_out: bool) -> dict[str, float]:
    return {name: share for name, share in fractions.items() if not (is_held_out and name == TRAIN)}


def _assign(
    groups: _Groups, targets: dict[str, dict[_Stratum, float]], held_out: frozenset[str], seed: int
) -> dict[str, str]:
    """Return the split of every group."""
    keys = list(groups)
    random.Random(seed).shuffle(keys)
    keys.sort(key=lambda key: -groups[key].total())
    held: dict[str, Counter[_Stratum]] = {name: Counter() for name in targets}
    aims = {name: math.fsum(strata.values()) for name, strata in targets.items()}
    sizes = dict.fromkeys(targets, 0)
    placed = {}
    for key in keys:
        counts = groups[key]
        allowed = _allowed(aims, any(language in held_out for language, _ in counts))
        name = min(
            allowed,
            key=lambda name: math.fsum(
                [_growth(held[name][stratum], count, targets[name][stratum]) for stratum, count in counts.items()]
                + [_growth(sizes[name], counts.total(), aims[name])]
            ),
        )
        placed[key] = name
        held[name].update(counts)
        sizes[name] += counts.total()
    return placed


def _growth(held: int, added: int, target: float) -> float:
    """Return by how much (held - target)^2 / target grows when `added` rows come to those held."""
    return added * (2 * (held - target) + added) / target
