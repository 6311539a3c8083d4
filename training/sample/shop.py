"""The shop that the sample's query logs are about: leaf categories, attributes and brands, loaded and checked.

Knows the data files of this folder (see its README); knows nothing of queries, titles, labels or splits.
"""

import random
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from relevance.tasks import query_key
from relevance.text.formatting import split_levels
from training.sample.tables import Faults, Line, first_cells, parts, read_table

LANGUAGES = ("en", "es", "fr", "pt", "ja", "ko", "th", "de", "it", "pl", "ar", "vi", "id")
ATTRIBUTE_KINDS = ("colour", "material", "size", "audience", "use")
EVERYWHERE = "*"
SHOWCASE_CANDIDATES = 10

_DEPTHS = range(2, 5)


@dataclass(frozen=True, slots=True)
class Leaf:
    """A leaf category: its English path, and by language the words for it, the plain name first."""

    path: str
    words: dict[str, tuple[str, ...]]

    @property
    def levels(self) -> tuple[str, ...]:
        """Level names, top first."""
        return tuple(split_levels(self.path))

    @property
    def top(self) -> str:
        """Name of the first level."""
        return self.levels[0]


@dataclass(frozen=True, slots=True)
class Attribute:
    """A colour, material, size, audience or use: its word by language, and the categories that it makes sense in."""

    kind: str
    words: dict[str, str]
    categories: tuple[str, ...]

    def suits(self, leaf: Leaf) -> bool:
        """Return whether shoppers say this of such a thing."""
        return EVERYWHERE in self.categories or _covers(self.categories, leaf.path)


@dataclass(frozen=True, slots=True)
class Brand:
    """An invented brand and the categories (paths from the top, to any depth) that it sells."""

    name: str
    categories: tuple[str, ...]

    def sells(self, leaf: Leaf) -> bool:
        """Return whether the leaf is in one of the brand's categories."""
        return _covers(self.categories, leaf.path)


@dataclass(frozen=True, slots=True)
class Shop:
    """All leaves, attributes and brands, in the order of the files."""

    leaves: tuple[Leaf, ...]
    attributes: tuple[Attribute, ...]
    brands: tuple[Brand, ...]

    @property
    def tops(self) -> tuple[str, ...]:
        """Names of the top-level categories, each once."""
        return tuple(dict.fromkeys(leaf.top for leaf in self.leaves))


@dataclass(frozen=True, slots=True)
class ShowcaseQuery:
    """A plain query, the path that answers it, and ten paths to rank, the right one among them."""

    language: str
    query: str
    category_path: str
    candidates: tuple[str, ...]


def load_shop(folder: Path | None = None) -> Shop:
    """Return the packaged shop, or the one in `folder`. InputError naming every bad line of every file."""
    source = _source(folder)
    faults = Faults()
    leaves = _leaves(source, faults)
    paths = [path for file in _category_files(source) for path in first_cells(file)]
    attributes = _attributes(source, paths, faults)
    brands = _brands(source, paths, faults)
    faults.raise_if_any()
    return Shop(leaves, attributes, brands)


def showcase(folder: Path | None = None) -> tuple[ShowcaseQuery, ...]:
    """Return the queries of showcase.tsv with ten candidates each: always the same ones for the same files.

    One wrong candidate has the right one's top level, the others are spread over the other top levels. InputError as
    for `load_shop`, and for a query whose language or path the shop lacks.
    """
    shop = load_shop(folder)
    top_of = {leaf.path: leaf.top for leaf in shop.leaves}
    faults = Faults()
    found = []
    for line in read_table(_source(folder) / "showcase.tsv", ("language", "query", "category_path"), faults):
        if line.cells["language"] not in LANGUAGES:
            faults.add(line, "language", f"one of {', '.join(LANGUAGES)}")
        elif line.cells["category_path"] not in top_of:
            faults.add(line, "category_path", "a leaf category of the shop")
        else:
            candidates = _candidates(top_of, line.cells["category_path"], line.cells["query"])
            found.append(ShowcaseQuery(**line.cells, candidates=candidates))
    faults.raise_if_any()
    return tuple(found)


def _source(folder: Path | None) -> Path | Traversable:
    return files("training.sample") if folder is None else folder


def _covers(categories: Iterable[str], path: str) -> bool:
    return any(f"{path},".startswith(f"{category},") for category in categories)


def _category_files(source: Path | Traversable) -> list[Path | Traversable]:
    folder = source / "categories"
    found = [file for file in folder.iterdir() if file.name.endswith(".tsv")] if folder.is_dir() else []
    return sorted(found, key=lambda file: file.name)


def _leaves(source: Path | Traversable, faults: Faults) -> tuple[Leaf, ...]:
    tables = _category_files(source)
    if not tables:
        faults.lines.append(f"{source / 'categories'}: holds no .tsv file; expected one a top-level category")
    leaves: list[Leaf] = []
    paths: dict[str, Line] = {}
    words: dict[tuple[str, str], Line] = {}
    for file in tables:
        first: str | None = None
        for line in read_table(file, ("category_path", *LANGUAGES), faults):
            levels = split_levels(line.cells["category_path"]) or [""]
            first = first or levels[0]
            _check_path(line, levels, first, paths, faults)
            leaf = Leaf(line.cells["category_path"], {code: parts(line, code, faults) for code in LANGUAGES})
            _check_words(line, leaf, words, faults)
            leaves.append(leaf)
    return tuple(leaves)


def _check_path(line: Line, levels: list[str], first: str, paths: dict[str, Line], faults: Faults) -> None:
    path = line.cells["category_path"]
    if path != ",".join(levels) or path != path.lower():
        faults.add(line, "category_path", "lower-case level names joined by commas, with no spare space")
    if len(levels) not in _DEPTHS:
        faults.add(line, "category_path", f"{_DEPTHS[0]} to {_DEPTHS[-1]} levels, found {len(levels)}")
    if levels[0] != first:
        faults.add(line, "category_path", f"the first level {first!r}, as in the file's first row")
    if path in paths:
        faults.add(line, "category_path", f"a path not yet in {_place(paths[path])}")
    paths.setdefault(path, line)


def _check_words(line: Line, leaf: Leaf, words: dict[tuple[str, str], Line], faults: Faults) -> None:
    for code in LANGUAGES:
        for word in leaf.words[code]:
            key = (code, query_key(word))
            if key in words:
                faults.add(line, code, f"a word not yet in {_place(words[key])}", word)
            words.setdefault(key, line)


def _attributes(source: Path | Traversable, paths: list[str], faults: Faults) -> tuple[Attribute, ...]:
    attributes = []
    for line in read_table(source / "attributes.tsv", ("kind", "categories", *LANGUAGES), faults):
        if line.cells["kind"] not in ATTRIBUTE_KINDS:
            faults.add(line, "kind", f"one of {', '.join(ATTRIBUTE_KINDS)}")
        words = {code: line.cells[code] for code in LANGUAGES}
        attributes.append(Attribute(line.cells["kind"], words, _categories(line, paths, faults, EVERYWHERE)))
    return tuple(attributes)


def _brands(source: Path | Traversable, paths: list[str], faults: Faults) -> tuple[Brand, ...]:
    brands: list[Brand] = []
    names: dict[str, Line] = {}
    for line in read_table(source / "brands.tsv", ("brand", "categories"), faults):
        key = query_key(line.cells["brand"])
        if key in names:
            faults.add(line, "brand", f"a name not yet in {_place(names[key])}")
        names.setdefault(key, line)
        categories = _categories(line, paths, faults)
        if paths and all(_covers(categories, path) for path in paths):
            faults.add(line, "categories", "a part of the shop: no category would be wrong for the brand")
        brands.append(Brand(line.cells["brand"], categories))
    return tuple(brands)


def _categories(line: Line, paths: list[str], faults: Faults, *wildcards: str) -> tuple[str, ...]:
    categories = parts(line, "categories", faults)
    for category in categories:
        if category not in wildcards and not any(_covers([category], path) for path in paths):
            faults.add(line, "categories", "the beginning or the whole of a category path of the shop", category)
    return categories


def _place(line: Line) -> str:
    return f"{line.file} line {line.number}"


def _candidates(top_of: dict[str, str], right: str, seed: str) -> tuple[str, ...]:
    """Return the right path, one of the same top level and others in turn from the other top levels, shuffled."""
    rng = random.Random(f"showcase:{seed}")
    by_top: dict[str, list[str]] = {top: [] for top in top_of.values()}
    for path, top in top_of.items():
        if path != right:
            by_top[top].append(path)
    siblings = by_top.pop(top_of[right])
    chosen = [right, *rng.sample(siblings, min(1, len(siblings)))]
    tops = rng.sample(list(by_top), len(by_top))
    while len(chosen) < SHOWCASE_CANDIDATES and any(by_top.values()):
        for top in tops:
            if by_top[top] and len(chosen) < SHOWCASE_CANDIDATES:
                chosen.append(by_top[top].pop(rng.randrange(len(by_top[top]))))
    return tuple(rng.sample(chosen, len(chosen)))
