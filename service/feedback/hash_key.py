"""The secret key of the hashes in a feedback log. It lies in the log's folder, and is made with it."""

import contextlib
import os
import secrets
import tempfile
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
        with tempfile.TemporaryFile(dir=folder):
            pass  # the folder can be written
    except OSError as error:
        raise ConfigError(f"feedback_folder {folder}: {error.strerror}; expected a folder to write into") from None
    return read_key(folder)


def _make_key(path: Path) -> None:
    """Write a new key, unless another process is quicker. Processes of several containers may have the same id."""
    handle, beside = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.parent)  # only its owner reads it
    try:
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_hex(KEY_BYTES) + "\n")
        with contextlib.suppress(FileExistsError):
            os.link(beside, path)
    finally:
        Path(beside).unlink(missing_ok=True)
