"""The stages that turn rows into rows, as the pipeline calls them: each writes `train.parquet` and returns its report.

Knows the stages' functions and what they need from the recipe; knows nothing of keys and reruns.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from relevance.errors import InputError
from relevance.tasks import LabeledPair, query_key
from training.cleaning.stage import clean
from training.data.dataset import read_pairs
from training.data.disk_cache import DiskCache
from training.data.extras import MERGED_IDS, MERGED_SOURCE_IDS, SOURCE_ID, own_ids, source_ids
from training.data.groups import linked_groups
from training.data.keep_out import linked_with
from training.data.splits import TRAIN, draw, split_pairs, summarize
from training.embedding.vectors import QUERY_PREFIX, CachedEncoder, PairEncoder, Vectors
from training.pipeline.recipe import DataSection, PipelineRecipe, SplitSection

log = logging.getLogger(__name__)

Report = dict[str, Any]
GATE_ENCODER = "packaged:multilingual-e5-small"  # tells whether a translation means the same


@dataclass(frozen=True, slots=True)
class Datasets:
    """Rows to train on, rows to choose by, and rows to evaluate on (empty: evaluate on dev)."""

    train: list[LabeledPair]
    dev: list[LabeledPair]
    test: list[LabeledPair]

    @property
    def held_out(self) -> list[LabeledPair]:
        """All rows that no stage may train on."""
        return [*self.dev, *self.test]


@dataclass(frozen=True, slots=True)
class Caches:
    """Folders that outlast a run: embeddings, translations and out-of-fold scores."""

    folder: Path

    def encoder(self, name: str) -> PairEncoder:
        """Return the pair encoder over a base model, its vectors kept."""
        from training.models.encoder_embedder import EncoderEmbedder

        return CachedEncoder(EncoderEmbedder(name), self.folder / "embeddings")


class _QueryEmbedder:
    """Embeds queries by a pair encoder."""

    def __init__(self, encoder: PairEncoder) -> None:
        self._encoder = encoder

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return float32 [N, D]."""
        return self._encoder.embed(texts, QUERY_PREFIX)


def with_own_ids(files: Sequence[list[LabeledPair]]) -> tuple[list[LabeledPair], int]:
    """Return the rows of several files under ids of their own, and how many got another one.

    Files often number their rows from 1 each. Made rows name their source by its id, so that two rows of one id would
    be taken for one. The id of a row in the Nth file becomes `ID@N`, that of a repeated one in a file `ID#2` and so on;
    `source_id` and the ids of merged rows follow within their file.
    """
    taken: set[str] = set()
    rows: list[LabeledPair] = []
    changed = 0
    for number, file in enumerate(files, start=1):
        clashing = {name for row in file for name in own_ids(row)} & taken
        for row in file:
            new = f"{row.id}@{number}" if row.id in clashing else row.id
            once, count = new, 1
            while new in taken:
                count += 1
                new = f"{once}#{count}"
            taken.add(new)
            extra = _renamed(row, clashing, number)
            changed += new != row.id
            rows.append(row if new == row.id and extra is row.extra else replace(row, id=new, extra=extra))
        taken |= {name for row in rows[-len(file) :] for name in own_ids(row)} if file else set()
    return rows, changed


def _renamed(row: LabeledPair, clashing: set[str], number: int) -> dict[str, Any]:
    """Return a row's extras with the clashing ids in them renamed as rows of the Nth file are."""
    names = [*own_ids(row)[1:], *source_ids(row)]
    if not clashing.intersection(names):
        return row.extra

    def new(ids: list[str]) -> list[str]:
        return [f"{name}@{number}" if name in clashing else name for name in ids]

    sources = new(source_ids(row))
    found = {SOURCE_ID: sources[:1], MERGED_SOURCE_IDS: sources[1:], MERGED_IDS: new(own_ids(row)[1:])}
    extra = {name: value for name, value in row.extra.items() if name not in found}
    return extra | {name: ids[0] if name == SOURCE_ID else ids for name, ids in found.items() if ids}


def as_they_came(part: list[LabeledPair], raw: Sequence[LabeledPair]) -> list[LabeledPair]:
    """Return rows of a split as they came: texts, labels and tags from before cleaning, merged rows one by one."""
    by_id = {row.id: row for row in raw}
    return [by_id[name] for row in part for name in own_ids(row) if name in by_id]


def chosen_rows(rows: list[LabeledPair], data: DataSection, seed: int) -> list[LabeledPair]:
    """Return the rows of the wanted languages, at most as many as wanted. InputError for a language without rows."""
    wanted = set(data.languages)
    present = {row.pair.language for row in rows}
    if missing := wanted - present:
        raise InputError(
            f"data.languages {', '.join(sorted(missing))}: no training row has it; expected some of "
            f"{', '.join(sorted(present))}"
        )
    return draw([row for row in rows if not wanted or row.pair.language in wanted], data.max_rows, seed)


def read_stage(recipe: PipelineRecipe) -> tuple[dict[str, list[LabeledPair]], Report]:
    """Read the files of train, dev and test, every row under an id of its own."""
    data = recipe.data
    parts: dict[str, list[LabeledPair]] = {}
    renamed: dict[str, int] = {}
    for part, paths in (("train", data.train), ("dev", data.dev), ("test", data.test)):
        read = [read_pairs(path, recipe.task, reading=data.reading).rows for path in paths]
        parts[part], renamed[part] = with_own_ids(read)
    parts["train"] = chosen_rows(parts["train"], data, recipe.split.seed)
    return parts, {"rows": {part: len(rows) for part, rows in parts.items()}, "renamed_ids": renamed}


def clean_stage(rows: list[LabeledPair], recipe: PipelineRecipe) -> tuple[list[LabeledPair], Report]:
    """Clean rows."""
    cleaned, report = clean(rows, recipe.task, recipe.cleaning.options())
    return cleaned, report.model_dump(mode="json")


def split_stage(given: Datasets, raw: Sequence[LabeledPair], section: SplitSection) -> tuple[Datasets, Report]:
    """Leave training rows out that hang together with given dev or test rows, then split off what is not given.

    Rows hang together by query, translations and made rows included (training.data.groups). What is split off gets its
    rows from `raw`, as they came.
    """
    rows, dev, test = given.train, given.dev, given.test
    groups = linked_groups(rows)
    linked = linked_with(rows, [part for part in (dev, test) if part])
    leaking = {group for group, is_linked in zip(groups, linked, strict=True) if is_linked}
    languages = set(section.held_out_languages)
    leaking |= {
        group for group, row in zip(groups, rows, strict=True) if row.pair.language in languages and dev and test
    }
    places = [n for n, group in enumerate(groups) if group not in leaking]
    left, left_groups = [rows[n] for n in places], [groups[n] for n in places]
    if len(left) < len(rows):
        log.warning(
            "split: %d training rows left out: queries of dev or test, or held-out languages", len(rows) - len(left)
        )
    wanted = {"dev": 0.0 if dev else section.dev, "test": 0.0 if test else section.test}
    fractions = {TRAIN: 1 - sum(wanted.values())} | {name: share for name, share in wanted.items() if share}
    if fractions[TRAIN] <= 0:
        raise InputError(f"split: dev {section.dev:g} and test {section.test:g} leave no training rows")
    parts = {TRAIN: left}
    if len(fractions) > 1:
        parts = split_pairs(
            left,
            fractions=fractions,
            seed=section.seed,
            held_out_languages=section.held_out_languages,
            groups=left_groups,
        )
    dev = dev or as_they_came(parts["dev"], raw)
    found = Datasets(parts[TRAIN], dev, test or as_they_came(parts.get("test", []), raw))
    shared = len({query_key(row.pair.query) for row in found.dev} & {query_key(row.pair.query) for row in found.test})
    if shared:
        log.warning("split: %d queries are in dev and test: metrics on test flatter", shared)
    names = {"train": found.train, "dev": found.dev, "test": found.test}
    summaries = [summary for summary in summarize(names) if summary.rows]
    parts_report = {
        part.name: {"rows": part.rows, "queries": part.queries, "languages": part.languages} for part in summaries
    }
    return found, {"left_out": len(rows) - len(left), "queries_in_dev_and_test": shared, **parts_report}


def translate_stage(data: Datasets, recipe: PipelineRecipe, caches: Caches) -> tuple[list[LabeledPair], Report]:
    """Add translated rows."""
    from training.translation.augment import augment
    from training.translation.backends import open_translators
    from training.translation.chain import TranslatorChain

    section = recipe.translation
    embedder = None if section.gates.similarity is None else _QueryEmbedder(caches.encoder(GATE_ENCODER))
    with (
        open_translators(section.backends, section.settings, skip_bad=section.skip_bad_units) as translators,
        DiskCache(caches.folder / "translations.sqlite", "translation cache") as cache,
    ):
        chain = TranslatorChain(translators, cache)
        rows, report = augment(data.train, section.options(), chain, held_out=data.held_out, embedder=embedder)
    return rows, report.model_dump(mode="json")


def mine_stage(data: Datasets, recipe: PipelineRecipe, caches: Caches) -> tuple[list[LabeledPair], Report]:
    """Add semantic negatives."""
    from training.negatives.sampling import sample_negatives
    from training.negatives.vet import CheckpointVet

    section = recipe.negatives
    vet = None if section.vet is None else CheckpointVet(section.vet, recipe.task)
    encoder = caches.encoder(recipe.base_model)
    rows, report = sample_negatives(data.train, recipe.task, section.options(), encoder, vet=vet)
    return rows, report.model_dump(mode="json")


def filter_stage(data: Datasets, recipe: PipelineRecipe, caches: Caches) -> tuple[list[LabeledPair], Report]:
    """Act on rows whose labels are doubtful, or, as a control, drop as many at random."""
    from training.selfvalidation.actions import drop_at_random
    from training.selfvalidation.stage import SelfValidation, validate_rows

    section = recipe.filtering
    stage = SelfValidation(recipe.fine_tuning(), section.options(), caches.folder / "validation", data.held_out)
    done = validate_rows(data.train, stage)
    report = done.report.model_dump(mode="json")
    if section.control:
        return drop_at_random(data.train, done.dropped, section.seed), report | {"control": "dropped at random"}
    return done.rows, report
