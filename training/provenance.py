"""Where a result comes from: the source commit, and fingerprints of what went into it."""

import hashlib
import json
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from relevance.tasks import LabeledPair
from training.weights import LABEL_WEIGHT


def source_commit() -> str:
    """Return the commit of this source tree, `+changes` behind it where files differ, or `unknown` outside git."""
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
    """Return the sha256 of some texts and some lists of labelled pairs."""
    digest = hashlib.sha256(json.dumps(parts).encode())
    for pairs in rows:
        digest.update(b"\0rows\0")
        for row in pairs:
            fields = [row.pair.query, row.pair.candidate, row.pair.language, row.label]
            fields += [row.extra[LABEL_WEIGHT]] if LABEL_WEIGHT in row.extra else []
            digest.update(json.dumps(fields, ensure_ascii=False).encode() + b"\n")
    return digest.hexdigest()
