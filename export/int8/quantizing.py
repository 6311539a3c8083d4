"""The graph of a bundle in int8, so that a pair's score does not depend on its batch; what hurts scores stays fp32.

Products with weights and tables of embeddings become 8-bit integers. Where scores then move too far, products stay
fp32: those whose rounding costs most for their size, as few as needed, by the scores of pairs that gave no scales. The
mean of the shifts of logits is taken off them at the end.
"""

import logging
import shutil
from bisect import bisect_left
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.int8.rewriting import StaticQuantizer, switch
from relevance.model.bundle import DATA_FILE, MODEL_FILE, Bundle, Int8
from relevance.model.session import DEFAULT_BATCH_TOKENS, BundleSession, Logits, onnxruntime, session_options
from relevance.text.tokenization import TokenizedPair, batches

log = logging.getLogger(__name__)

CALIBRATION_PAIRS = 128  # at most; and pairs that choose what stays fp32
TARGET_SHIFT = 0.015  # of a score, at the 99th percentile of the pairs that check: under the limit, since others follow
LARGEST_SHIFT = 0.02  # that is promised
Shifts = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Pairs:
    """The dev pairs: tokens, languages and fp32 logits [N]; which give the scales, and which check."""

    tokens: Sequence[TokenizedPair]
    languages: Sequence[str]
    expected: Logits
    observing: Sequence[int]
    checking: Sequence[int]

    def some(self) -> "_Pairs":
        """Return the pairs that give the scales and as many of the others, spread over them."""
        step = max(1, len(self.checking) // CALIBRATION_PAIRS)
        checking = self.checking[::step][:CALIBRATION_PAIRS]
        places = sorted({*self.observing, *checking})
        new = {place: number for number, place in enumerate(places)}
        return _Pairs(
            [self.tokens[place] for place in places],
            [self.languages[place] for place in places],
            self.expected[places],
            [new[place] for place in self.observing],
            [new[place] for place in checking],
        )

    def offset(self, logits: Logits) -> float:
        """Return what is to be added to logits [N], by the pairs that give the scales."""
        return float((self.expected - logits)[self.observing].mean())

    def shifts(self, bundle: Bundle, logits: Logits) -> Shifts:
        """Return how far the scores of the pairs that check move, with logits [N] and their offset."""
        card = bundle.manifest
        moved = logits + np.float32(self.offset(logits))
        scores = [card.scores(each, self.languages) for each in (self.expected, moved)]
        found: Shifts = np.abs(scores[1] - scores[0])[self.checking]
        return found


def quantize(bundle: Bundle, pairs: Sequence[TokenizedPair], languages: Sequence[str], head: frozenset[str]) -> Int8:
    """Replace the fp32 graph of a bundle in the making by one in int8; return what stays fp32, and how scores move.

    Where all in int8 moves the 99th percentile of scores by more than `TARGET_SHIFT`, some products stay fp32. Scores
    are checked on other pairs than those that give the scales, as far as there are others. The nodes of the `head` stay
    fp32.
    """
    path, apart = bundle.folder / MODEL_FILE, bundle.folder / "fp32"
    known = _Pairs(pairs, languages, _logits(bundle, pairs), *_parted(len(pairs)))
    apart.mkdir()
    for name in (MODEL_FILE, DATA_FILE):
        if (bundle.folder / name).is_file():
            (bundle.folder / name).replace(apart / name)
    tokenizer, names = bundle.tokenizer(), bundle.manifest.input_names
    arrays = [tokenizer.collate([pairs[place]]) for place in known.observing]  # alone, and so without padding
    quantizer = StaticQuantizer(apart / MODEL_FILE, [{name: each[name] for name in names} for each in arrays], head)
    in_fp32: Collection[str] = ()
    quantizer.write(path, in_fp32, 0.0)
    logits = _logits(bundle, pairs)
    if (shift := _p99(known.shifts(bundle, logits))) > TARGET_SHIFT:
        log.info("int8: scores move by %.4f with all products in int8; choosing those that stay fp32", shift)
        with _probe(bundle, quantizer, apart / "both", known.some()) as probe:
            in_fp32 = _chosen(probe, quantizer.weights)
        quantizer.write(path, in_fp32, 0.0)
        logits = _logits(bundle, pairs)
    quantizer.write(path, in_fp32, known.offset(logits))
    shutil.rmtree(apart)
    total = len(quantizer.nodes(quantizer.weights))
    found = Int8(
        products=total,
        in_fp32=quantizer.nodes(in_fp32),
        checked_pairs=len(known.checking),
        score_shift_p99=_p99(known.shifts(bundle, logits)),
    )
    log.info("int8: %d of %d products in fp32, shift of scores %.4f", len(found.in_fp32), total, found.score_shift_p99)
    return found


def findings(found: Int8 | None) -> tuple[str, ...]:
    """Return the finding of a bundle in int8 whose scores move further than is promised; none for other precisions."""
    if found is None or found.score_shift_p99 <= LARGEST_SHIFT:
        return ()
    return (
        f"int8 moves the 99th percentile of scores by {found.score_shift_p99:.3f}, of {found.checked_pairs} pairs; "
        f"expected at most {LARGEST_SHIFT}: serve fp32 where scores count",
    )


@dataclass(frozen=True, slots=True)
class _Probe:
    """A session over the graph with each product in both ways, and the batches of the pairs to run."""

    bundle: Bundle
    session: onnxruntime.InferenceSession
    names: Sequence[str]
    pairs: _Pairs
    feeds: Sequence[tuple[Sequence[int], dict[str, NDArray[Any]]]]

    def shifts(self, in_fp32: Collection[str]) -> Shifts:
        """Return how far scores move with the products of these inputs in fp32, and all others in int8."""
        chosen = {switch(name): np.array(name not in in_fp32) for name in self.names}
        logits = np.zeros(len(self.pairs.tokens), dtype=np.float32)
        for places, arrays in self.feeds:
            logits[places] = self.session.run(None, arrays | chosen)[0].reshape(-1)
        return self.pairs.shifts(self.bundle, logits)


@contextmanager
def _probe(bundle: Bundle, quantizer: StaticQuantizer, folder: Path, pairs: _Pairs) -> Iterator[_Probe]:
    folder.mkdir()
    quantizer.write_both(folder / MODEL_FILE)
    options = session_options()
    session = onnxruntime.InferenceSession(str(folder / MODEL_FILE), options, providers=["CPUExecutionProvider"])
    shutil.rmtree(folder)
    tokenizer, names = bundle.tokenizer(), bundle.manifest.input_names
    feeds = []
    for places in batches([len(pair) for pair in pairs.tokens], DEFAULT_BATCH_TOKENS["cpu"]):
        arrays = tokenizer.collate([pairs.tokens[place] for place in places])
        feeds.append((places, {name: arrays[name] for name in names}))
    yield _Probe(bundle, session, tuple(quantizer.weights), pairs, feeds)


def _chosen(probe: _Probe, weights: dict[str, int]) -> list[str]:
    """Return the fewest inputs whose products must stay fp32, in the order of what each gains for its weights.

    The gain is how much less scores move (mean square) where it alone is in fp32. All of them where none is enough.
    """
    base = np.square(probe.shifts(())).mean()
    gains = {name: (base - np.square(probe.shifts([name])).mean()) / size for name, size in weights.items()}
    order = sorted(gains, key=lambda name: -gains[name])
    numbers = range(1, len(order))
    enough = bisect_left(numbers, True, key=lambda number: _p99(probe.shifts(order[:number])) <= TARGET_SHIFT)
    return order[: enough + 1]


def _p99(shifts: Shifts) -> float:
    return float(np.quantile(shifts, 0.99))


def _parted(count: int) -> tuple[list[int], list[int]]:
    """Return the places of the pairs that give the scales, and of those to check on: all others, or all if few."""
    observing = list(range(0, count, -(-count // CALIBRATION_PAIRS)))
    return observing, sorted({*range(count)} - {*observing}) or observing


def _logits(bundle: Bundle, pairs: Sequence[TokenizedPair]) -> Logits:
    return BundleSession.start(bundle, device="cpu").logits(pairs)
