"""One run of translation augmentation from files to files, as the command gives it."""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from relevance.errors import InputError
from relevance.outputs import write_text
from relevance.tasks import Task
from training.data.dataset import read_pairs
from training.data.files.reading import AS_IT_COMES, ReadOptions
from training.data.files.writers import write_file
from training.data.keep_out import kept_out_files, read_kept_out, without_linked
from training.data.splits import write_pairs
from training.embedding.embedder import Embedder
from training.translation.augment import augment
from training.translation.backends import backend_settings, open_translators
from training.translation.cache import TranslationCache
from training.translation.desk import Desk
from training.translation.gates import GateOptions
from training.translation.plan import TranslationOptions, target_languages
from training.translation.report import Rejection, TranslationReport

log = logging.getLogger(__name__)


class TranslationJob(BaseModel):
    """Files, options and backends of a run.

    Rows linked with those of `dev` and `keep_out`, or of dev and test files beside `file`, are left out. Where the
    options name no target, targets are the languages that dev has and `file` lacks: `dev`, or else all kept-out rows.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: Path
    out: Path
    task: Task
    options: TranslationOptions
    backends: tuple[str, ...]
    settings: tuple[str, ...] = ()
    dev: Path | None = None
    keep_out: tuple[Path, ...] = ()
    cache: Path
    report: Path | None = None
    rejected: Path | None = None
    retry_failed: bool = False
    skip_bad_units: bool = False
    reading: ReadOptions = AS_IT_COMES


def run_job(job: TranslationJob) -> TranslationReport:
    """Read, augment and write; every file appears whole or not at all.

    InputError, saying why for each language, where no row was made at all: then `out` is not written, but `report` and
    `rejected` are. Further errors are those of the parts.
    """
    read = read_pairs(job.file, job.task, reading=job.reading).rows
    files = kept_out_files(job.file, job.task, [*([job.dev] if job.dev else []), *job.keep_out])
    held = read_kept_out(files, job.task, job.reading)
    rows = without_linked(read, held)
    rejections: list[Rejection] = []
    held_rows = [row for part in held for row in part]
    like = held[0] if job.dev else held_rows
    options = job.options.model_copy(update={"targets": target_languages(job.options, rows, like)})
    settings = backend_settings(job.settings)
    with (
        quiet_http(),
        open_translators(job.backends, settings, skip_bad=job.skip_bad_units) as translators,
        TranslationCache(job.cache) as cache,
    ):
        if job.retry_failed:
            cache.forget_failures()
        made, report = augment(
            rows,
            options,
            Desk(translators, cache),
            held_out=held_rows,
            embedder=_embedder(job.options.gates),
            on_rejected=rejections.append,
        )
    report = report.model_copy(update={"left_out": len(read) - len(rows)})
    if job.rejected is not None:
        write_file(job.rejected, (rejection.model_dump() for rejection in rejections))
    if job.report is not None:
        write_text(job.report, report.model_dump_json(indent=2) + "\n")
    if not report.made:
        raise InputError("\n".join(["translate: no row was made", *report.why_none()]))
    for reason in report.why_none():
        log.warning("translate: %s", reason)
    write_pairs(job.out, made, job.task)
    return report


def _embedder(gates: GateOptions) -> Embedder | None:
    if gates.similarity is None:
        return None
    from training.models.encoder_embedder import EncoderEmbedder

    return EncoderEmbedder()


@contextlib.contextmanager
def quiet_http() -> Iterator[None]:
    """Keep httpx from logging every request at INFO."""
    logger = logging.getLogger("httpx")
    level = logger.level
    logger.setLevel(max(level, logging.WARNING))
    try:
        yield
    finally:
        logger.setLevel(level)
