"""Translation augmentation from files to files, as the command gives it."""

import json
import logging
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from relevance.errors import InputError
from relevance.storage.outputs import write_text
from relevance.tasks import Task
from training.data.dataset import store_pairs
from training.data.disk_cache import DiskCache
from training.data.files.writers import beside, write_file
from training.data.keep_out import kept_out_rows, without_linked
from training.data.splits import write_pairs
from training.data.stored.batches import BATCH_ROWS
from training.data.stored.buckets import StoredTexts
from training.data.stored.rows import chained
from training.embedding.vectors import Embedder
from training.translation.augment import augment
from training.translation.backends.choice import backend_settings, open_translators
from training.translation.chain import TranslatorChain
from training.translation.options import GateOptions, TranslationOptions, TranslationSources
from training.translation.quota import target_languages
from training.translation.report import Rejection, TranslationReport

log = logging.getLogger(__name__)


def cache_file(out: Path, sources: TranslationSources) -> Path:
    """Return where translations are kept from run to run."""
    return sources.cache or beside(out, "translations.sqlite")


def translate_file(
    file: Path, out: Path, task: Task, options: TranslationOptions, sources: TranslationSources
) -> TranslationReport:
    """Read, augment and write; every file appears whole or not at all.

    Rows linked with those of `like` and `keep_out`, or of dev and test files beside `file`, are left out. Where the
    options name no target, targets are the languages that `like`, or else all kept-out rows, have and `file` lacks.
    InputError, saying why for each language, where no row was made at all: then `out` is not written, but `report` and
    `rejected` are. Further errors are those of the parts.
    """
    read = store_pairs(file, task, reading=sources.reading).rows
    given = [*([sources.like] if sources.like else []), *sources.keep_out]
    held = kept_out_rows(file, task, given, sources.reading)
    rows = without_linked(read, held)
    rejections = _Rejections()
    held_rows = chained(*held)
    like = held[0] if sources.like else held_rows
    options = options.model_copy(update={"targets": target_languages(options, rows, like)})
    settings = backend_settings(sources.settings)
    with (
        open_translators(sources.backends, settings, skip_bad=sources.skip_bad_units) as translators,
        DiskCache(cache_file(out, sources), "translation cache") as cache,
    ):
        if sources.retry_failed:
            cache.forget_failures()
        made, report = augment(
            rows,
            options,
            TranslatorChain(translators, cache),
            held_out=held_rows,
            embedder=_embedder(options.gates),
            on_rejected=rejections.add if sources.rejected is not None else lambda rejection: None,
        )
    report = report.model_copy(update={"left_out": len(read) - len(rows)})
    if sources.rejected is not None:
        write_file(sources.rejected, rejections)
    if sources.report is not None:
        write_text(sources.report, report.model_dump_json(indent=2) + "\n")
    if not report.made:
        raise InputError("\n".join(["translate: no row was made", *report.why_none()]))
    for reason in report.why_none():
        log.warning("translate: %s", reason)
    write_pairs(out, made, task)
    return report


class _Rejections:
    """The records of rejections, on disk in the order in which they came."""

    def __init__(self) -> None:
        self._stored = StoredTexts()
        self._waiting: list[str] = []

    def add(self, rejection: Rejection) -> None:
        """Append one. MachineError if the disk is full."""
        self._waiting.append(rejection.model_dump_json())
        if len(self._waiting) == BATCH_ROWS:
            self._stored.add(self._waiting)
            self._waiting = []

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return map(json.loads, chain(self._stored, self._waiting))


def _embedder(gates: GateOptions) -> Embedder | None:
    if gates.similarity is None:
        return None
    from training.models.encoder_embedder import EncoderEmbedder

    return EncoderEmbedder()
