"""Pairs of a text and its translation, out of the units of translation memories and aligned taxonomies."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from relevance.errors import InputError
from training.alignment.options import HELD_OUT_SHARE, MOST_HELD_OUT, AlignmentOptions
from training.data.groups import group_key
from training.translation.backends.memory_files import Unit


@dataclass(frozen=True, slots=True)
class Translated:
    """A source text, its translation, and the translation's language."""

    source: str
    text: str
    language: str


@dataclass(frozen=True, slots=True)
class Parts:
    """Pairs to train on, and pairs that are only measured; no source text is in both, in whatever case.

    `held_out` pairs are left out for one of their texts, `not_drawn` ones because there are more than `most_pairs`.
    """

    train: list[Translated]
    measured: list[Translated]
    held_out: int
    not_drawn: int


def parts(units: Iterable[Unit], options: AlignmentOptions, held: set[str]) -> Parts:
    """Return the different pairs of `units`, without those of which a text is a held-out query (keys of `group_key`).

    A unit's source is its original, or its text in the source language. InputError where fewer than two sources of
    pairs are left, or too few pairs for one batch.
    """
    every = list(dict.fromkeys(_pairs(units, options.source_language)))
    drawn = free = [each for each in every if held.isdisjoint((group_key(each.source), group_key(each.text)))]
    random = np.random.default_rng(options.seed)
    if len(free) > options.most_pairs:
        drawn = [free[place] for place in np.sort(random.permutation(len(free))[: options.most_pairs])]
    sources = list(dict.fromkeys(each.source for each in drawn))
    count = min(MOST_HELD_OUT, max(1, round(HELD_OUT_SHARE * len(sources))))
    measured = {group_key(sources[place]) for place in random.permutation(len(sources))[:count]}
    train = [each for each in drawn if group_key(each.source) not in measured]
    held_out, not_drawn = len(every) - len(free), len(free) - len(drawn)
    if len(train) < options.batch_size:
        raise InputError(
            f"alignment: {len(train):,} pairs of a text and a translation to train on; expected at least batch_size = "
            f"{options.batch_size}. There are {len(every):,} pairs of an original, or a text in "
            f"{options.source_language!r}: {held_out:,} are held out, {not_drawn:,} beyond most_pairs, "
            f"{len(drawn) - len(train):,} only measured"
        )
    return Parts(train, [each for each in drawn if group_key(each.source) in measured], held_out, not_drawn)


def _pairs(units: Iterable[Unit], source_language: str) -> Iterable[Translated]:
    for unit in units:
        origin = source_language if unit.origin is None else unit.origin
        if origin in unit.texts:
            for language, text in unit.texts.items():
                if language != origin:
                    yield Translated(unit.texts[origin], text, language)


def batches(pairs: Sequence[Translated], options: AlignmentOptions) -> list[list[int]]:
    """Return the pairs' numbers by step: texts of like length together, the last incomplete batch of an epoch left out.

    A pure function of its arguments, which a resumed run calls again.
    """
    random = np.random.default_rng(options.seed)
    lengths = np.array([len(each.source) + len(each.text) for each in pairs])
    found: list[list[int]] = []
    for _ in range(options.epochs):
        places = random.permutation(len(pairs))[: len(pairs) // options.batch_size * options.batch_size]
        ordered = places[np.lexsort((random.random(len(places)), lengths[places] // 12))]
        rows = ordered.reshape(-1, options.batch_size)
        found += rows[random.permutation(len(rows))].tolist()
    return found
