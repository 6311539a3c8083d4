"""The stages that turn rows into rows. Each writes its outputs and returns its report.

Knows the strategies' functions and what they need from the recipe; knows nothing of keys and reruns.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress
from operator import or_

import numpy as np

from relevance.errors import InputError
from relevance.tasks import LabeledPair
from training.cleaning.stage import clean
from training.data.dataset import store_pairs
from training.data.disk_cache import DiskCache
from training.data.extras import own_ids
from training.data.groups import group_key, iter_groups
from training.data.keep_out import iter_linked
from training.data.rows import BadRowsError
from training.data.splits import draw, split_pairs, summarize
from training.data.stored.buckets import distinct
from training.data.stored.joins import with_ids
from training.data.stored.rows import StoredRows, chained, filtered, on_disk, queries_of, strata_of
from training.embedding.vectors import QUERY_PREFIX, PairEncoder, Vectors
from training.pipeline.own_ids import with_own_ids
from training.pipeline.recipe import DataSection, SplitSection
from training.pipeline.stage_run import DEV, TEST, TRAIN, Report, StageRun

log = logging.getLogger(__name__)

GATE_ENCODER = "packaged:multilingual-e5-small"  # judges whether a translation has the meaning of its source


@dataclass(frozen=True, slots=True)
class Datasets:
    """Rows to train on, rows to choose by, and rows to evaluate on (empty: evaluate on dev)."""

    train: Sequence[LabeledPair]
    dev: Sequence[LabeledPair]
    test: Sequence[LabeledPair]

    @property
    def held_out(self) -> StoredRows:
        """All rows that no stage may train on."""
        return chained(on_disk(self.dev), on_disk(self.test))


class _QueryEmbedder:
    """Embeds queries by a pair encoder."""

    def __init__(self, encoder: PairEncoder) -> None:
        self._encoder = encoder

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return float32 [N, D]."""
        return self._encoder.embed(texts, QUERY_PREFIX)


def read(run: StageRun) -> Report:
    """Read the files of train, dev and test. Raises InputError for bad rows, or writes them to files of the stage."""
    files, bad_rows = _read_files(run)
    parts: dict[str, Sequence[LabeledPair]] = {}
    renamed: dict[str, int] = {}
    for part, each in files.items():
        rows, renamed[part] = with_own_ids(each)
        parts[part] = _chosen(rows, run.recipe.data, run.recipe.split.seed) if part == "train" else rows
    for part, kept in parts.items():
        run.write(f"{part}.parquet", kept)
    return {"rows": {part: len(kept) for part, kept in parts.items()}, "renamed_ids": renamed, "bad_rows": bad_rows}


def _read_files(run: StageRun) -> tuple[dict[str, list[Sequence[LabeledPair]]], dict[str, int]]:
    """Return the rows of each file, by part, and the counts of bad rows, by the file in the stage's folder."""
    data, task = run.recipe.data, run.recipe.task
    files: dict[str, list[Sequence[LabeledPair]]] = {}
    bad_rows: dict[str, int] = {}
    refused: list[BadRowsError] = []
    for part, paths in (("train", data.train), ("dev", data.dev), ("test", data.test)):
        files[part] = []
        for number, path in enumerate(paths, start=1):
            bad = run.work / f"bad_rows.{part}{number}.jsonl"
            try:
                found = store_pairs(path, task, reading=data.reading, bad_rows_file=bad if data.skip_bad_rows else None)
            except BadRowsError as error:
                refused.append(error)
                continue
            files[part].append(found.rows)
            if found.report.bad_rows:
                bad_rows[bad.name] = len(found.report.bad_rows)
            else:
                bad.unlink(missing_ok=True)
    if refused:
        raise InputError("\n".join(map(str, refused)))
    return files, bad_rows


def clean_rows(run: StageRun) -> Report:
    """Clean training rows; those of dev and test stay as they came."""
    rows, report = clean(run.stored(TRAIN), run.recipe.task, run.recipe.cleaning)
    run.write(TRAIN, rows)
    return report.model_dump(mode="json")


def split(run: StageRun) -> Report:
    """Split dev and test off the training rows where no files of them are given."""
    raw, dev, test = (run.stored(f"read {part}") for part in (TRAIN, DEV, TEST))
    found, report = split_rows(Datasets(run.stored(TRAIN), dev, test), raw, run.recipe.split)
    for name, rows in ((TRAIN, found.train), (DEV, found.dev), (TEST, found.test)):
        run.write(name, rows)
    return report


def translate(run: StageRun) -> Report:
    """Add translated rows."""
    from training.translation.augment import augment
    from training.translation.backends.choice import open_translators
    from training.translation.chain import TranslatorChain

    section = run.recipe.translation
    embedder = None if section.gates.similarity is None else _QueryEmbedder(run.caches.encoder(GATE_ENCODER))
    with (
        open_translators(section.backends, section.settings, skip_bad=section.skip_bad_units) as translators,
        DiskCache(run.caches.folder / "translations.sqlite", "translation cache") as cache,
    ):
        chain, held_out = TranslatorChain(translators, cache), _held_out(run)
        rows, report = augment(run.stored(TRAIN), section, chain, held_out=held_out, embedder=embedder)
    run.write(TRAIN, rows)
    return report.model_dump(mode="json")


def mine(run: StageRun) -> Report:
    """Add semantic negatives."""
    from training.fitting.evaluation.scorer import KeptScorer, model_scorer
    from training.negatives.sampling import sample_negatives

    section, task = run.recipe.negatives, run.recipe.task
    kept = run.caches.folder / "logits"
    vet = None if section.vet is None else KeptScorer(model_scorer(section.vet, task, "vet"), kept)
    encoder = run.caches.encoder(run.recipe.base_model)
    rows, report = sample_negatives(run.stored(TRAIN), task, section, encoder, vet=vet)
    run.write(TRAIN, rows)
    return report.model_dump(mode="json")


def filter_rows(run: StageRun) -> Report:
    """Act on rows whose labels are doubtful, or, as a control, drop as many at random."""
    from training.selfvalidation.actions import drop_at_random
    from training.selfvalidation.stage import SelfValidation, validate_rows

    section, rows = run.recipe.filtering, run.stored(TRAIN)
    work, encoder = run.caches.folder / "validation", run.caches.encoder
    stage = SelfValidation(run.recipe.fine_tuning(), section, work, _held_out(run), encoder, lists_flagged=False)
    done = validate_rows(rows, stage)
    report = done.report.model_dump(mode="json")
    if section.control:
        run.write(TRAIN, drop_at_random(rows, done.dropped, section.seed))
        return report | {"control": "dropped at random"}
    run.write(TRAIN, done.rows)
    return report


def split_rows(given: Datasets, raw: Sequence[LabeledPair], section: SplitSection) -> tuple[Datasets, Report]:
    """Leave training rows out that are linked with given dev or test rows, then split off what is not given.

    Rows are linked by query, translations and made rows included (training.data.groups). What is split off gets its
    rows from `raw`, as they came.
    """
    wanted = {"dev": 0.0 if given.dev else section.dev, "test": 0.0 if given.test else section.test}
    fractions = {"train": 1 - sum(wanted.values())} | {name: share for name, share in wanted.items() if share}
    if fractions["train"] <= 0:
        raise InputError(f"split: dev {section.dev:g} and test {section.test:g} leave no training rows")
    left = _without_leaks(given, section)
    parts: dict[str, Sequence[LabeledPair]] = {"train": left}
    if len(fractions) > 1:
        held_out, groups = section.held_out_languages, iter_groups(left)
        parts |= split_pairs(left, fractions=fractions, seed=section.seed, held_out_languages=held_out, groups=groups)
    dev = given.dev or _as_they_came(parts["dev"], raw)
    found = Datasets(parts["train"], dev, given.test or _as_they_came(parts.get("test", []), raw))
    summaries = summarize({"train": found.train, "dev": found.dev, "test": found.test})
    shared = _queries(found.dev) + _queries(found.test) - _queries(found.held_out)
    if shared:
        log.warning("split: %d queries are in dev and test: metrics on test flatter", shared)
    parts_report = {
        part.name: {"rows": part.rows, "queries": part.queries, "languages": part.languages}
        for part in summaries
        if part.rows
    }
    return found, {"left_out": len(given.train) - len(left), "queries_in_dev_and_test": shared, **parts_report}


def _without_leaks(given: Datasets, section: SplitSection) -> Sequence[LabeledPair]:
    """Return the training rows of groups that are not linked with dev or test.

    Where both dev and test are given, groups with a row of a held-out language are left out too.
    """
    held = [part for part in (given.dev, given.test) if part]
    if not held:
        return given.train
    languages = set(section.held_out_languages) if given.dev and given.test else set()
    in_language = (language in languages for language, _ in strata_of(given.train))
    leaking = set(compress(iter_groups(given.train), map(or_, iter_linked(given.train, held), in_language)))
    kept = np.fromiter((group not in leaking for group in iter_groups(given.train)), bool, len(given.train))
    if left_out := len(kept) - int(kept.sum()):
        log.warning("split: %d training rows left out: queries of dev or test, or held-out languages", left_out)
    return filtered(given.train, kept)


def _queries(rows: Sequence[LabeledPair]) -> int:
    """Return how many different queries rows have."""
    return distinct(map(group_key, queries_of(rows)), len(rows))


def _as_they_came(part: Sequence[LabeledPair], raw: Sequence[LabeledPair]) -> StoredRows:
    """Return rows of a split as they came: texts, labels and tags from before cleaning, merged rows one by one."""
    return with_ids(raw, (name for row in part for name in own_ids(row)))


def _chosen(rows: StoredRows, data: DataSection, seed: int) -> Sequence[LabeledPair]:
    """Return the rows of the wanted languages, at most as many as wanted. InputError for a language without rows."""
    wanted = set(data.languages)
    present = {language for language, _ in strata_of(rows)}
    if missing := wanted - present:
        raise InputError(
            f"data.languages {', '.join(sorted(missing))}: no training row has it; expected some of "
            f"{', '.join(sorted(present))}"
        )
    if not wanted:
        return draw(rows, data.max_rows, seed)
    kept = np.fromiter((language in wanted for language, _ in strata_of(rows)), bool, len(rows))
    return draw(filtered(rows, kept), data.max_rows, seed)


def _held_out(run: StageRun) -> StoredRows:
    """Return the rows that no stage may train on."""
    return chained(run.stored(DEV), run.stored(TEST))
