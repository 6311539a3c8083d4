"""The worst errors of a model, with the words that moved each logit.

A word's effect is the logit of the pair less the logit without the word, before calibration (leave one out; Li, Monroe
and Jurafsky 2016, arXiv 1612.08220). Words that say the same hide one another: without either, the other one stays.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Literal

import numpy as np
import regex
from numpy.typing import NDArray

from relevance.evaluation.metrics import Scored
from relevance.storage.strict import StrictModel
from relevance.tasks import LabeledPair, Pair
from training.text.scripts import script_of

MOST_WORDS = 40  # of each text; the words after them are not left out
SHOWN = 50
Logits = Callable[[Sequence[LabeledPair]], NDArray[np.floating]]
Side = Literal["query", "candidate"]

_WORD = regex.compile(r"[\p{L}\p{M}\p{N}]+(?:[.'’-][\p{L}\p{M}\p{N}]+)*")
_UNSPACED = frozenset({"HAN", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR"})


class Effect(StrictModel):
    """A word of the query or candidate, and what it adds to the logit."""

    word: str
    side: Side
    change: float


class Mistake(StrictModel):
    """A row whose label the model gets wrong, and its words by the size of their effect."""

    id: str
    query: str
    candidate: str
    language: str
    label: int
    score: float
    threshold: float
    effects: tuple[Effect, ...]


def worst(rows: Sequence[LabeledPair], scored: Scored, logits: NDArray[np.floating], run: Logits) -> list[Mistake]:
    """Return the 50 false positives of the highest scores, then the 50 false negatives of the lowest, worst first.

    `run` scores all pairs with one word left out in one call; `logits` [N] are those of the rows.
    """
    labels, said = np.asarray(scored.labels), scored.predicted(0.5)
    order = np.argsort(-np.asarray(scored.scores), kind="stable")
    high = [place for place in order if said[place] and not labels[place]][:SHOWN]
    low = [place for place in order[::-1] if labels[place] and not said[place]][:SHOWN]
    cuts = [cut for place in (*high, *low) for cut in _cuts(place, rows[place].pair)]
    without = run([cut.left(rows[cut.place]) for cut in cuts]) if cuts else ()
    effects: defaultdict[int, list[Effect]] = defaultdict(list)
    for cut, logit in zip(cuts, without, strict=True):
        change = float(logits[cut.place] - logit)
        effects[cut.place].append(Effect(word=cut.word, side=cut.side, change=change))
    return [_mistake(rows[place], place, scored, effects[place]) for place in (*high, *low)]


def words(text: str) -> list[tuple[int, int]]:
    """Return start and end of each word; where no spaces are written, of each run of one script."""
    found = []
    for match in _WORD.finditer(text):
        start = match.start()
        if any(script_of(character) in _UNSPACED for character in match.group()):
            for _, run in groupby(match.group(), key=script_of):
                length = len(list(run))
                found.append((start, start + length))
                start += length
        else:
            found.append(match.span())
    return found


@dataclass(frozen=True, slots=True)
class _Cut:
    """A word of a row, from `start` to `end` in the text of one side."""

    place: int
    side: Side
    start: int
    end: int
    text: str

    @property
    def word(self) -> str:
        return self.text[self.start : self.end]

    def left(self, row: LabeledPair) -> LabeledPair:
        """Return the row without the word."""
        return replace(row, pair=replace(row.pair, **{self.side: self.text[: self.start] + self.text[self.end :]}))


def _cuts(place: int, pair: Pair) -> list[_Cut]:
    sides: tuple[tuple[Side, str], ...] = (("query", pair.query), ("candidate", pair.candidate))
    return [_Cut(place, side, *span, text) for side, text in sides for span in words(text)[:MOST_WORDS]]


def _mistake(row: LabeledPair, place: int, scored: Scored, effects: list[Effect]) -> Mistake:
    return Mistake(
        id=row.id,
        query=row.pair.query,
        candidate=row.pair.candidate,
        language=row.pair.language,
        label=row.label,
        score=scored.scores[place],
        threshold=0.5 if scored.thresholds is None else scored.thresholds[place],
        effects=tuple(sorted(effects, key=lambda effect: -abs(effect.change))),
    )
