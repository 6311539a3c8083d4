"""Translation augmentation from files to files, as the command gives it."""

import logging
from pathlib import Path

from relevance.errors import InputError
from relevance.storage.outputs import write_text
from relevance.tasks import Task
from training.data.dataset import read_pairs
from training.data.disk_cache import DiskCache
from training.data.files.writers import beside, write_file
from training.data.keep_out import kept_out_rows, without_linked
from training.data.splits import write_pairs
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
    read = read_pairs(file, task, reading=sources.reading).rows
    given = [*([sources.like] if sources.like else []), *sources.keep_out]
    held = kept_out_rows(file, task, given, sources.reading)
    rows = list(without_linked(read, held))
    rejections: list[Rejection] = []
    held_rows = [row for part in held for row in part]
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
            on_rejected=rejections.append,
        )
    report = report.model_copy(update={"left_out": len(read) - len(rows)})
    if sources.rejected is not None:
        write_file(sources.rejected, (rejection.model_dump() for rejection in rejections))
    if sources.report is not None:
        write_text(sources.report, report.model_dump_json(indent=2) + "\n")
    if not report.made:
        raise InputError("\n".join(["translate: no row was made", *report.why_none()]))
    for reason in report.why_none():
        log.warning("translate: %s", reason)
    write_pairs(out, made, task)
    return report


def _embedder(gates: GateOptions) -> Embedder | None:
    if gates.similarity is None:
        return None
    from training.models.encoder_embedder import EncoderEmbedder

    return EncoderEmbedder()
