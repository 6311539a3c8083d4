"""The provenance of a result: the source commit, and fingerprints of its inputs."""

import hashlib
import json
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from relevance.errors import InputError
from relevance.storage.files import sha256_of
from relevance.tasks import LabeledPair
from training.data.extras import own_ids, source_ids
from training.data.files.parts import files_of, is_stream, parts_of
from training.data.labels.weights import LABEL_SHARE, LABEL_WEIGHT


def source_commit() -> str:
    """Return the commit of this source tree, with `+changes` if files differ; `unknown` outside git."""
    here = Path(__file__).parent

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, check=True, timeout=20)
        return done.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def now() -> str:
    """Return the time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def fingerprint(*parts: str, rows: Iterable[Iterable[LabeledPair]] = ()) -> str:
    """Return the sha256 of some texts and some lists of labelled pairs: all of a row that training reads.

    Ids count, by which a teacher's logits are found, and sources, by which `copies_as_one` weighs rows.
    """
    digest = hashlib.sha256(json.dumps(parts).encode())
    for pairs in rows:
        digest.update(b"\0rows\0")
        for row in pairs:
            fields = [row.pair.query, row.pair.candidate, row.pair.language, row.label]
            fields += [*own_ids(row), "of", *source_ids(row)]
            fields += [f"{name} {row.extra[name]}" for name in (LABEL_SHARE, LABEL_WEIGHT) if name in row.extra]
            digest.update(json.dumps(fields, ensure_ascii=False).encode() + b"\n")
    return digest.hexdigest()


def content_of(path: Path) -> str:
    """Return the sha256 of a file, or of the files of a folder or pattern with their names.

    A stream is copied once. InputError where one cannot be read.
    """
    try:
        if is_stream(path):
            return sha256_of(parts_of(path)[0].path)
        if (files := files_of(path)) != [path]:
            return hashlib.sha256(json.dumps([[str(file), sha256_of(file)] for file in files]).encode()).hexdigest()
        if path.is_dir():
            parts = [[str(p.relative_to(path)), sha256_of(p)] for p in sorted(path.rglob("*")) if p.is_file()]
            return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
        return sha256_of(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); expected a file") from None
