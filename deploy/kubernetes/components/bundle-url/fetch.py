"""Downloads bundles into a folder: `python fetch.py SOURCES.toml FOLDER`. Standard library only.

An existing bundle is kept. A new one appears whole or not at all, and only if its sha256 is the one in SOURCES.toml.
The service checks the content of a bundle when it loads it.
"""

import hashlib
import sys
import tarfile
import tempfile
import tomllib
import urllib.request
from pathlib import Path

MAX_BYTES = 4 * 2**30
CHUNK_BYTES = 2**20
TIMEOUT_SECONDS = 60  # without a byte


def fetch(url: str, sha256: str, folder: Path) -> None:
    """Download the .tar.gz at `url` and unpack it to `folder`. Raises ValueError if it is not as expected."""
    if not url.startswith(("https://", "http://")):
        raise ValueError(f"url {url!r}: expected https:// or http://")
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".fetching-") as beside:
        archive, unpacked = Path(beside, "archive"), Path(beside, "unpacked")
        found = _download(url, archive)
        if found != sha256.lower():
            raise ValueError(f"{url}: its sha256 is {found}, expected {sha256}")
        _unpack(archive, unpacked)
        unpacked.rename(folder)


def _download(url: str, file: Path) -> str:
    """Download `url` to `file` and return its sha256."""
    digest, size = hashlib.sha256(), 0
    with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as answer, file.open("wb") as out:
        while chunk := answer.read(CHUNK_BYTES):
            size += len(chunk)
            if size > MAX_BYTES:
                raise ValueError(f"{url}: more than {MAX_BYTES} bytes")
            digest.update(chunk)
            out.write(chunk)
    return digest.hexdigest()


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack files and folders. The filter refuses members outside of `folder`."""
    with tarfile.open(archive, "r:gz") as tar:
        size = sum(member.size for member in tar)
        if size > MAX_BYTES:
            raise ValueError(f"{archive.name}: {size} bytes unpacked, expected {MAX_BYTES} at most")
        tar.extractall(folder, filter="data")


def main(sources: Path, folder: Path) -> None:
    """Download each bundle that does not exist yet, and report on stderr."""
    for name, source in tomllib.loads(sources.read_text(encoding="utf-8")).items():
        if (folder / name).exists():
            print(f"{name}: exists already", file=sys.stderr)
            continue
        fetch(source["url"], source["sha256"], folder / name)
        print(f"{name}: {source['sha256']}", file=sys.stderr)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]))
    except (OSError, ValueError, tarfile.TarError) as error:
        sys.exit(f"error: {error}")
