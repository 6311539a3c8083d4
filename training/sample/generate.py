"""The sample's query logs: seeded rows for QC and QI with the faults of real logs, and the true labels as extras.

Knows which pairs are made and how they are labelled; `queries` has the wording and `plan` the numbers. This folder's
README says what the rows are good for.
"""

import json
import random
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

from relevance.errors import ConfigError, InputError
from relevance.storage.files import whole_folder
from relevance.tasks import ANALYTICUP_TASKS, LabeledPair, Pair, Task, query_key
from training.data.splits import write_pairs
from training.sample.plan import POSITIVE_SHARES, SPLITS, SampleSettings, rows_by_language, train_languages
from training.sample.queries import Query, Wording
from training.sample.shop import LANGUAGES, Leaf, Shop, load_shop

NOTE_FILE = "SYNTHETIC.txt"
FLIPPED = "flipped"

_BRAND_ONLY = 0.06  # shares of new queries
_BARE = 0.25
_ASKED_AGAIN = {0: 0.4, 1: 0.1}  # by label: share of rows whose query has a row already
_CLOSE_NEGATIVES = 0.5
_KEPT_IN_NEGATIVES = 0.4  # share of QI negatives whose title has the query's brand, attributes or number all the same
_NATIVE_TITLES = 0.12
_TRIES = 500

_VN_LANGUAGE = {Task.QC: {}, Task.QI: {"vi": "vn"}}  # AnalytiCup writes Vietnamese as `vn` in its QI files

_NOTE = """All rows in this folder are synthetic: written by a generator from the word lists of training/sample.
No shopper typed these queries, no shop sells these items, the brands are invented, and part of the labels is
wrong on purpose (`noise` is "flipped"; `true_label` and `noise` are there for checking, never for training).
Use them to see that a pipeline runs and does what it says. They are never a benchmark of quality.
"""


def generate(task: Task, settings: SampleSettings, shop: Shop) -> dict[str, list[LabeledPair]]:
    """Return the task's rows by split; equal arguments give equal rows.

    Extras are `true_label`, `noise` (empty or `flipped`) and `synthetic`. No query is in two splits, nor any two
    queries that differ in case, white space or width only. ConfigError when the shop has too few words for the scale.
    """
    log = _Log(task, shop, random.Random(f"{settings.seed}:{task}"))
    splits = {}
    for split in SPLITS:
        counts = rows_by_language(task, split, settings.scale)
        rows = [row for language, count in counts.items() for row in log.rows(split, language, count)]
        log.rng.shuffle(rows)
        splits[split] = _flipped(rows, settings.flip_rate(split), log.rng)
    return splits


def write_sample(folder: Path, *, seed: int = 0, scale: float = 1.0) -> dict[str, int]:
    """Write {train,dev,test}_{QC,QI}.txt and a note into a folder, whole or not at all; return the rows by file.

    An older sample is replaced. InputError when the folder holds anything else; ConfigError when `scale` is out of
    range.
    """
    settings = SampleSettings(seed, scale)
    names = {(task, split): f"{split}_{task.upper()}.txt" for task in ANALYTICUP_TASKS for split in SPLITS}
    _check_folder(folder, {NOTE_FILE, *names.values()})
    shop = load_shop()
    written = {}
    with whole_folder(folder) as fresh:
        for task in ANALYTICUP_TASKS:
            for split, rows in generate(task, settings, shop).items():
                write_pairs(fresh / names[task, split], [_as_analyticup(row, task) for row in rows], task)
                written[names[task, split]] = len(rows)
        facts = json.dumps({"settings": asdict(settings), "rows": written}, indent=1)
        (fresh / NOTE_FILE).write_text(f"{_NOTE}\n{facts}\n", encoding="utf-8")
    return written


@dataclass
class _Log:
    """The state of the generator for one task: the queries and pairs used so far."""

    task: Task
    shop: Shop
    rng: random.Random
    _taken: set[str] = field(default_factory=set)  # keys of all queries of all splits
    _pairs: set[tuple[str, str]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._wording = Wording(self.shop, self.rng)
        self._neighbours = _neighbours(self.shop)
        self._bare = self._bare_words()

    def rows(self, split: str, language: str, count: int) -> Iterator[tuple[Pair, int]]:
        """Yield pairs of one split and language with their true labels."""
        positives = round(count * POSITIVE_SHARES[self.task])
        deck = self._deck()
        # A language with rows enough teaches the plain name of every leaf once before it goes on.
        plain_first = len(self.shop.leaves) if split == "train" and positives >= 2 * len(self.shop.leaves) else 0
        asked: dict[int, list[Query]] = {0: [], 1: []}  # by label: queries that another row of that label may take
        for n in range(count):
            label = int(n < positives)
            bare = 1.0 if n < plain_first else _BARE
            found = self._again(asked[label], label) if n >= plain_first else None
            if found is None:
                found = self._first(partial(self._query, deck, split, language, bare), label)
                asked[0].append(found[0])
                if self.task is Task.QI or found[0].leaf is None:  # a QC query with a leaf has just one right path
                    asked[1].append(found[0])
            query, candidate = found
            yield Pair(query.text, candidate, language), label

    def _first(self, ask: Callable[[], Query], label: int) -> tuple[Query, str]:
        """Return a query that no split has yet, with a candidate."""
        for _ in range(_TRIES):
            query = ask()
            key = _coarse_key(query.text)
            if key not in self._taken:
                self._taken.add(key)
                candidate = self._candidate(query, label)
                self._pairs.add((key, candidate))
                return query, candidate
        raise ConfigError(f"{_TRIES} queries in turn were taken already; expected a smaller scale or more words")

    def _again(self, asked: list[Query], label: int) -> tuple[Query, str] | None:
        """Sometimes return an earlier query with another candidate."""
        if not asked or self.rng.random() >= _ASKED_AGAIN[label]:
            return None
        query = self.rng.choice(asked)
        candidate = self._candidate(query, label)
        pair = (_coarse_key(query.text), candidate)
        if pair in self._pairs:
            return None
        self._pairs.add(pair)
        return query, candidate

    def _query(self, deck: Iterator[Leaf], split: str, language: str, bare: float) -> Query:
        leaf = next(deck)
        words = self._bare[split, language, leaf.path]
        if words and self.rng.random() < bare:
            return self._wording.bare(words.pop(0), leaf, language)
        if bare < 1 and self.shop.brands and self.rng.random() < _BRAND_ONLY:
            return self._wording.brand_only(self.rng.choice(self.shop.brands), language)
        return self._wording.composed(leaf, language)

    def _candidate(self, query: Query, label: int) -> str:
        leaf = self._right_leaf(query) if label else self._wrong_leaf(query)
        if self.task is Task.QC:
            return leaf.path
        native = query.language in train_languages(Task.QI) and self.rng.random() < _NATIVE_TITLES
        answered: Query | None = query
        if not label:
            answered = self._lookalike(query, leaf)
        return self._wording.title(leaf, query.language if native else "en", answered)

    def _lookalike(self, query: Query, leaf: Leaf) -> Query:
        """Return a query for another leaf with something of the first: overlap alone must not give a label away."""
        keep = [self.rng.random() < _KEPT_IN_NEGATIVES for _ in range(3)]
        brand = query.brand if keep[0] and query.brand and query.brand.sells(leaf) else None
        attributes = tuple(a for a in query.attributes if keep[1] and a.suits(leaf))
        number = query.number if keep[2] and query.brand is None else ""  # beside a brand it is a model number
        return Query("", query.language, leaf, brand, attributes, number)

    def _right_leaf(self, query: Query) -> Leaf:
        if query.leaf:
            return query.leaf
        return self.rng.choice([leaf for leaf in self.shop.leaves if query.brand and query.brand.sells(leaf)])

    def _wrong_leaf(self, query: Query) -> Leaf:
        if query.leaf is None:
            return self.rng.choice([leaf for leaf in self.shop.leaves if query.brand and not query.brand.sells(leaf)])
        near = self._neighbours[query.leaf.path]
        if near and self.rng.random() < _CLOSE_NEGATIVES:
            return self.rng.choice(near)
        other = self.rng.randrange(1, len(self.shop.leaves))
        return self.shop.leaves[(self.shop.leaves.index(query.leaf) + other) % len(self.shop.leaves)]

    def _deck(self) -> Iterator[Leaf]:
        """Yield all leaves in random order, again and again, so that none is left out."""
        while True:
            yield from self.rng.sample(self.shop.leaves, len(self.shop.leaves))

    def _bare_words(self) -> defaultdict[tuple[str, str, str], list[str]]:
        """Give every word one split in which it may be a whole query: train has the plain names of its languages."""
        bare: defaultdict[tuple[str, str, str], list[str]] = defaultdict(list)
        for language in LANGUAGES:
            seen = language in train_languages(self.task)
            for leaf in self.shop.leaves:
                for n, word in enumerate(leaf.words[language]):
                    (split,) = self.rng.choices(SPLITS, (0.6, 0.2, 0.2) if seen else (0, 0.5, 0.5))
                    split = "train" if seen and n == 0 else split
                    bare[split, language, leaf.path].append(word)
        return bare


def _neighbours(shop: Shop) -> dict[str, list[Leaf]]:
    """Return by path the other leaves under the same parent, or where there are none, under the same top level."""
    families: defaultdict[tuple[str, ...], list[Leaf]] = defaultdict(list)
    for leaf in shop.leaves:
        for family in {leaf.levels[:-1], leaf.levels[:1]}:
            families[family].append(leaf)
    near = {}
    for leaf in shop.leaves:
        siblings, cousins = families[leaf.levels[:-1]], families[leaf.levels[:1]]
        near[leaf.path] = [other for other in (siblings if len(siblings) > 1 else cousins) if other is not leaf]
    return near


def _coarse_key(query: str) -> str:
    # Coarser than query_key: a full-width query must not be in another split than its plain form either.
    return query_key(unicodedata.normalize("NFKC", query_key(query)))


def _flipped(rows: list[tuple[Pair, int]], rate: float, rng: random.Random) -> list[LabeledPair]:
    """Number the rows and flip the labels of exactly that share of them."""
    wrong = set(rng.sample(range(len(rows)), round(rate * len(rows))))
    labelled = []
    for n, (pair, truth) in enumerate(rows):
        extra = {"true_label": truth, "noise": FLIPPED if n in wrong else "", "synthetic": True}
        labelled.append(LabeledPair(pair, 1 - truth if n in wrong else truth, str(n + 1), extra))
    return labelled


def _as_analyticup(row: LabeledPair, task: Task) -> LabeledPair:
    code = _VN_LANGUAGE[task].get(row.pair.language, row.pair.language)
    return replace(row, pair=replace(row.pair, language=code))


def _check_folder(folder: Path, ours: set[str]) -> None:
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file; expected a folder, or nothing yet")
    strange = sorted({entry.name for entry in folder.iterdir()} - ours) if folder.exists() else []
    if strange:
        raise InputError(f"{folder}: holds {strange[0]!r}; expected an empty folder or an older sample, to be replaced")
