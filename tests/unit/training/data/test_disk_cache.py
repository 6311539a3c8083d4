"""The cache on disk."""

import os
import signal
import subprocess
import sys

import pytest

from relevance.errors import InputError
from training.data.disk_cache import DiskCache

KILLED = """
import os, signal, sys
from pathlib import Path
from training.data.disk_cache import DiskCache
cache = DiskCache(Path(sys.argv[1]), 'translation cache')
for n in range(50):
    cache.put(("t", "en", "de"), {f"cup {n}": f"Tasse {n}"})
    print(n, flush=True)
    if n == 20:
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_known_translation_is_never_replaced(tmp_path):
    with DiskCache(tmp_path / "c", "translation cache") as cache:
        cache.put(("t", "en", "de"), {"cup": "Tasse"})
        cache.put(("t", "en", "de"), {"cup": "Becher"})
        assert cache.get(("t", "en", "de"), ["cup", "bag"]) == {"cup": "Tasse"}


def test_what_was_put_survives_kill_9(tmp_path):
    done = subprocess.run([sys.executable, "-c", KILLED, tmp_path / "c"], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL
    with DiskCache(tmp_path / "c", "translation cache") as cache:
        assert cache.get(("t", "en", "de"), [f"cup {n}" for n in range(50)]) == {
            f"cup {n}": f"Tasse {n}" for n in range(21)
        }


def test_a_file_that_is_no_cache_is_named(tmp_path):
    (tmp_path / "c").write_text("no database, but long enough to look at " * 40)
    with pytest.raises(InputError, match="translation cache"):
        DiskCache(tmp_path / "c", "translation cache")
    if os.geteuid():  # root may write anywhere
        (tmp_path / "shut").mkdir(mode=0o500)
        with pytest.raises(InputError, match="translation cache"):
            DiskCache(tmp_path / "shut" / "c", "translation cache")
