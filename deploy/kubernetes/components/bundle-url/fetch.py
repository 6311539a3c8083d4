"""Fetches bundles into a folder: `python fetch.py SOURCES.toml FOLDER`. The standard library only.

A bundle that is there already is kept. One that is fetched is there whole or not at all, and only if its sha256 is the
one in SOURCES.toml. What the bundle says about itself is checked by the service when it loads it.
"""

import hashlib
import sys
import tarfile
import tempfile
import tomllib
import urllib.request
from pathlib import Path

MOST_BYTES = 4 * 2**30
PIECE = 2**20
SECONDS = 60  # without a byte


def fetch(url: str, sha256: str, folder: Path) -> None:
    """Make `folder` out of the .tar.gz at `url`. Raises ValueError where it is not what was expected."""
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
    """Write what is at `url` into `file` and return its sha256."""
    digest, size = hashlib.sha256(), 0
    with urllib.request.urlopen(url, timeout=SECONDS) as answer, file.open("wb") as out:
        while piece := answer.read(PIECE):
            size += len(piece)
            if size > MOST_BYTES:
                raise ValueError(f"{url}: more than {MOST_BYTES} bytes")
            digest.update(piece)
            out.write(piece)
    return digest.hexdigest()


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack plain files and folders; the filter refuses what would lie outside of `folder`."""
    with tarfile.open(archive, "r:gz") as tar:
        size = sum(member.size for member in tar)
        if size > MOST_BYTES:
            raise ValueError(f"{archive.name}: {size} bytes unpacked, expected {MOST_BYTES} at most")
        tar.extractall(folder, filter="data")


def main(sources: Path, folder: Path) -> None:
    """Fetch every bundle that is not there yet, and say so on stderr."""
    for name, source in tomllib.loads(sources.read_text(encoding="utf-8")).items():
        if (folder / name).exists():
            print(f"{name}: there already", file=sys.stderr)
            continue
        fetch(source["url"], source["sha256"], folder / name)
        print(f"{name}: {source['sha256']}", file=sys.stderr)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]))
    except (OSError, ValueError, tarfile.TarError) as error:
        sys.exit(f"error: {error}")
