"""The secret key of the hashes in a feedback log. It lies in the log's folder, and is made with it."""

import contextlib
import os
import secrets
from pathlib import Path

from relevance.errors import ConfigError
from relevance.feedback import KEY_BYTES, KEY_FILE, read_key


def prepare(folder: Path) -> bytes:
    """Make the folder of a log and its key where they are missing, and return the key.

    Raises ConfigError where the folder cannot be written, and where its key is damaged.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / KEY_FILE).exists():
            _make_key(folder / KEY_FILE)
        probe = folder / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ConfigError(f"feedback_folder {folder}: {error.strerror}; expected a folder to write into") from None
    return read_key(folder)


def _make_key(path: Path) -> None:
    """Write a new key, unless another process is quicker."""
    beside = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(secrets.token_hex(KEY_BYTES) + "\n")
        with contextlib.suppress(FileExistsError):
            os.link(beside, path)
    finally:
        beside.unlink(missing_ok=True)
