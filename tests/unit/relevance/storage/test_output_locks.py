"""One process at a time writes an output; a killed one blocks nobody."""

import os
import signal
import subprocess
import sys

import pytest

from relevance.errors import MachineError
from relevance.storage.locks import locks_output, output_lock

HOLDER = """
import sys
from pathlib import Path
from relevance.storage.locks import output_lock
with output_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds `out`."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "out")]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()


def test_a_second_process_is_refused_by_the_name_of_the_first(tmp_path, holder):
    with pytest.raises(MachineError, match=rf"out: in use by process {holder.pid}"), output_lock(tmp_path / "out"):
        pass


def test_the_lock_of_a_killed_process_blocks_nobody(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (tmp_path / ".out.lock").exists()
    with output_lock(tmp_path / "out"):
        assert (tmp_path / ".out.lock").read_text() == str(os.getpid())
    assert list(tmp_path.iterdir()) == []


def test_a_lock_is_free_after_an_error(tmp_path):
    with pytest.raises(KeyError), output_lock(tmp_path / "out"):
        raise KeyError
    with output_lock(tmp_path / "out"):
        pass


def test_other_outputs_of_a_folder_are_free(tmp_path, holder):
    with output_lock(tmp_path / "other"):
        pass


def test_a_function_holds_the_output_that_it_names(tmp_path, holder):
    @locks_output("out")
    def write(text, out=None):
        return f"{text} {out}"

    assert write("to nothing") == "to nothing None"
    with pytest.raises(MachineError, match="in use by process"):
        write("x", tmp_path / "out")
    with pytest.raises(MachineError, match="in use by process"):
        write("x", out=tmp_path / "out")
