"""Query lists with judgements: what BM25 finds for each query, and how relevant each candidate is.

- The sample shop: items and queries made from the word lists of training/sample, all SYNTHETIC. An item is relevant if
  it is of the query's category.
- Home Depot: real English queries. The list of a query is its judged titles. The gain is the raters' mean, from 1 to 3,
  brought to 0 to 1.
"""

import hashlib
import random
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from bm25 import TitleIndex
from numpy.typing import NDArray

from relevance.tasks import Task, query_key
from training.data.dataset import read_pairs
from training.sample.generate import SampleSettings, generate
from training.sample.queries import Wording
from training.sample.shop import LANGUAGES, Leaf, load_shop

HOME_DEPOT = Path(__file__).resolve().parents[2] / "shared" / "data" / "home_depot_qi" / "dev_QI.txt"
ENGLISH_TITLES = 0.5  # of the shop's items; the others are spread over all languages
BARE = 0.25  # share of queries that are a category's word alone, as in the sample
TUNING_SHARE = 0.5  # of the queries; they choose the weight of a blend, the others report it

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class QueryList:
    """A query and its candidates in BM25's order: titles, BM25 scores [N], gains [N] from 0 to 1, labels [N].

    `missed` are the gains of relevant items that BM25 did not find. `search_seconds` is the duration of the search.
    """

    query: str
    language: str
    titles: list[str]
    bm25: Floats
    gains: Floats
    labels: NDArray[np.bool_]
    search_seconds: float
    missed: Floats

    def __len__(self) -> int:
        return len(self.titles)

    @property
    def tunes(self) -> bool:
        """Whether the query chooses the weight of a blend; by a hash, so that a query never changes sides."""
        digest = hashlib.sha256(query_key(self.query).encode()).digest()
        return digest[0] < 256 * TUNING_SHARE


@dataclass(frozen=True, slots=True)
class Item:
    """An item of the sample shop."""

    title: str
    leaf: Leaf


def shop_items(per_leaf: int = 12, seed: int = 0) -> list[Item]:
    """Return items of all categories of the sample shop, in random order."""
    shop, rng = load_shop(), random.Random(f"{seed}:items")
    wording = Wording(shop, rng)
    items = [_item(leaf, wording, rng) for leaf in shop.leaves for _ in range(per_leaf)]
    rng.shuffle(items)
    return items


def shop_lists(items_per_leaf: int, queries_per_language: int, depth: int, seed: int = 0) -> list[QueryList]:
    """Return lists of at most `depth` items of the sample shop; no query is one of the sample's training rows."""
    shop, rng = load_shop(), random.Random(f"{seed}:queries")
    wording, items = Wording(shop, rng), shop_items(items_per_leaf, seed)
    titles = [item.title for item in items]
    index, leaves = TitleIndex(titles), np.array([item.leaf.path for item in items])
    asked = {query_key(row.pair.query) for row in generate(Task.QI, SampleSettings(), shop)["train"]}
    lists: list[QueryList] = []
    for language in LANGUAGES:
        wanted = len(lists) + queries_per_language
        while len(lists) < wanted:
            leaf = rng.choice(shop.leaves)
            bare = rng.random() < BARE
            query = rng.choice(leaf.words[language]) if bare else wording.composed(leaf, language).text
            if query_key(query) not in asked:
                asked.add(query_key(query))
                lists.append(_found(index, titles, query, language, depth, leaves == leaf.path))
    return lists


def _item(leaf: Leaf, wording: Wording, rng: random.Random) -> Item:
    language = "en" if rng.random() < ENGLISH_TITLES else rng.choice(LANGUAGES)
    return Item(wording.title(leaf, language), leaf)


def _found(
    index: TitleIndex, titles: Sequence[str], query: str, language: str, depth: int, relevant: NDArray[np.bool_]
) -> QueryList:
    """Return what BM25 finds for a query; `relevant` [M] are the relevant ones of all items."""
    began = time.perf_counter()
    hits = index.search(query, depth)
    seconds = time.perf_counter() - began
    labels = relevant[hits.places]
    missed = np.ones(int(relevant.sum() - labels.sum()))
    found = [titles[place] for place in hits.places]
    return QueryList(query, language, found, np.array(hits.scores), labels.astype(float), labels, seconds, missed)


def home_depot_lists(path: Path = HOME_DEPOT) -> list[QueryList]:
    """Return the judged titles of each query with titles of both labels, in BM25's order."""
    rows = read_pairs(path, Task.QI).rows
    titles = list(dict.fromkeys(row.pair.candidate for row in rows))
    places = {title: place for place, title in enumerate(titles)}
    index = TitleIndex(titles)
    by_query = defaultdict(list)
    for row in rows:
        by_query[row.pair.query].append(row)
    lists = []
    for query, judged in by_query.items():
        if len({row.label for row in judged}) < 2:
            continue
        hits = index.search(query, len(titles))
        scores = dict(zip(hits.places, hits.scores, strict=True))
        bm25 = np.array([scores.get(places[row.pair.candidate], 0.0) for row in judged])
        order = np.argsort(-bm25, kind="stable")
        gains = np.array([(row.extra["relevance"] - 1) / 2 for row in judged])
        labels = np.array([row.label == 1 for row in judged])
        ordered = [judged[place].pair.candidate for place in order]
        lists.append(QueryList(query, "en", ordered, bm25[order], gains[order], labels[order], 0.0, np.empty(0)))
    return lists
