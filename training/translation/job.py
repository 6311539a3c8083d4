"""One run of translation augmentation from files to files, as the command gives it."""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from relevance.errors import InputError
from relevance.files import whole_file
from relevance.tasks import LabeledPair, Task
from training.dataset import read_pairs, read_rows
from training.embedder import Embedder
from training.jsonlines import write_json_lines
from training.splits import write_pairs
from training.translation.augment import augment
from training.translation.backends import backend_settings, open_translators
from training.translation.cache import TranslationCache
from training.translation.desk import Desk
from training.translation.gates import GateOptions
from training.translation.plan import TranslationOptions, target_languages
from training.translation.report import Rejection, TranslationReport


class TranslationJob(BaseModel):
    """Files, options and backends of a run. `dev` also names the target languages where the options name none."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: Path
    out: Path
    task: Task
    options: TranslationOptions
    backends: tuple[str, ...]
    settings: tuple[str, ...] = ()
    dev: Path | None = None
    held_out: tuple[Path, ...] = ()
    cache: Path
    report: Path | None = None
    rejected: Path | None = None
    retry_failed: bool = False
    skip_bad_units: bool = False


def run_job(job: TranslationJob) -> TranslationReport:
    """Read, augment and write; every file appears whole or not at all. Errors are those of the parts."""
    rows = read_pairs(job.file, job.task).rows
    rejections: list[Rejection] = []
    dev = _evaluation_rows(job.dev, job.task) if job.dev else []
    options = job.options.model_copy(update={"targets": target_languages(job.options, rows, dev)})
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
            held_out=dev + [row for file in job.held_out for row in _evaluation_rows(file, job.task)],
            embedder=_embedder(job.options.gates),
            on_rejected=rejections.append,
        )
    write_pairs(job.out, made, job.task)
    if job.rejected is not None:
        write_json_lines(job.rejected, (rejection.model_dump() for rejection in rejections))
    if job.report is not None:
        _write(job.report, report.model_dump_json(indent=2) + "\n")
    return report


def _evaluation_rows(file: Path, task: Task) -> list[LabeledPair]:
    """Return the rows of a dev or test file; only queries and languages are used, so that labels may be absent."""
    rows = read_rows(file, task, require_labels=False).rows
    return [LabeledPair(row.pair, 0 if row.label is None else row.label, row.id) for row in rows]


def _embedder(gates: GateOptions) -> Embedder | None:
    if gates.similarity is None:
        return None
    from training.encoder_embedder import EncoderEmbedder

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


def _write(path: Path, text: str) -> None:
    try:
        with whole_file(path) as beside:
            beside.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); expected a file in an open folder") from None
