"""Merging column by column gives what a plain loop over rows gives."""

import random
from dataclasses import replace
from typing import Any

import pytest

from relevance.tasks import LabeledPair, Pair, Task, query_key
from training.cleaning.options import CleaningOptions, Tags
from training.cleaning.stage import clean
from training.data.extras import own_ids, source_ids
from training.data.votes.merging import tag_of

EXTRAS = {
    "label_votes": [1, 3],
    "label_share": [0.0, 0.5, 0.75],
    "label_weight": [0.25, 1.0],
    "label_cut": [0.125],
    "source_id": ["r1", "r2"],
    "merged_ids": [["x", "r1"]],
    "merged_source_ids": [["r3"]],
    "tagged_language": ["de"],
    "clicks": [3],
    "impressions": [9],
    "note": ["é", "label of a box", "half \ud83d", {"a": [1]}],
}


def row(chance: random.Random, at: int) -> LabeledPair:
    names = [name for name in EXTRAS if chance.random() < 0.15] if chance.random() < 0.6 else []
    key = chance.choice([f"r{at}", f"r{at % 7}", f"né {at}", f'"\\{at}', f"half\ud83d{at}"])
    query = chance.choice(["Red Shoes", "red  shoes", "табло"])
    path = chance.choice(["Home,Kitchen", "home,kitchen", "a"])
    return LabeledPair(
        Pair(query, path, chance.choice(["en", "de"])),
        chance.randrange(2),
        key,
        {name: chance.choice(EXTRAS[name]) for name in names},
    )


def votes_of(members: list[LabeledPair]) -> tuple[int, dict[str, Any]]:
    """Return the label of several rows and the extras that say what it is worth; all sums here are exact."""
    votes = [row.extra.get("label_votes", 1) for row in members]
    shares = [row.extra.get("label_share", row.label) for row in members]
    weights = [row.extra.get("label_weight", 1) * count for row, count in zip(members, votes, strict=True)]
    cuts = [row.extra.get("label_cut", 0.5) * count for row, count in zip(members, votes, strict=True)]
    share = sum(a * b for a, b in zip(shares, weights, strict=True)) / sum(weights)
    weight, cut = sum(weights) / sum(votes), sum(cuts) / sum(votes)
    extra = {"label_share": share, "label_votes": sum(votes)}
    extra |= {"label_weight": weight} if weight < 1 else {}
    return int(share >= cut - 1e-9), extra | ({"label_cut": cut} if cut != 0.5 else {})


def one_by_one(rows: list[LabeledPair]) -> list[LabeledPair]:
    pairs: dict[tuple[str, str, str], list[LabeledPair]] = {}
    for row in rows:
        pairs.setdefault((query_key(row.pair.query), query_key(row.pair.candidate), tag_of(row)), []).append(row)
    found = []
    for members in pairs.values():
        kept = next((row for row in members if "source_id" not in row.extra), members[0])
        place = next(at for at, row in enumerate(rows) if row is kept)
        if len(members) > 1:
            label, votes = votes_of(members)
            others = ("label_", "merged_", "clicks", "impressions")
            extra = {name: value for name, value in kept.extra.items() if not name.startswith(others)} | votes
            ids = dict.fromkeys(name for row in members for name in own_ids(row) if name != kept.id)
            sources = dict.fromkeys(name for row in members for name in source_ids(row))
            further = [name for name in sources if name != extra.get("source_id")]
            extra |= ({"merged_ids": list(ids)} if ids else {}) | ({"merged_source_ids": further} if further else {})
            kept = replace(kept, label=label, extra=extra)
        found.append((place, kept))
    return [row for _, row in sorted(found, key=lambda item: item[0])]


@pytest.mark.parametrize("seed", range(40))
def test_merging_by_columns_gives_what_a_loop_over_rows_gives(seed: int) -> None:
    chance = random.Random(seed)
    rows = [row(chance, at) for at in range(80)]
    found, report = clean(rows, Task.QC, CleaningOptions(tags=Tags.OFF, normalize_text=False))
    wanted = one_by_one(rows)
    assert list(found) == wanted
    assert [list(row.extra) for row in found] == [list(row.extra) for row in wanted]  # the order of names too
    assert report.votes.merged_rows == len(rows) - len(wanted)
