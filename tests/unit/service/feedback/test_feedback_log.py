"""The log's files are whole, its memory and its folder are bounded, and what is lost is counted."""

import contextlib
import fcntl
import json
import resource
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from relevance.errors import ConfigError
from relevance.feedback import KEY_FILE, FeedbackType, LogLine, ScoresLine, Team, hash_of, read_key, sampled
from relevance.tasks import Pair, Task
from service.feedback import feedback_log
from service.feedback.entries import Event, FeedbackEntry, ScoresEntry, Source
from service.feedback.feedback_log import FeedbackLog
from service.feedback.hash_key import prepare
from service.feedback.log_files import LogFiles
from service.lifecycle.challenger import in_share
from service.observability.metrics import Metrics
from service.settings import Settings
from tests import ROOT

KEY = bytes(range(32))
PAIRS = [Pair("red shoes", "Shoes,Sneakers", "en"), Pair("red shoes", "Home,Cups", "en"), Pair("靴", "Shoes", "ja")]
SOURCE = Source("request-1", Task.QC, "tiny", "abc")


def scores(**given):
    return ScoresEntry(SOURCE, PAIRS, [0.9, 0.2, 0.5], [1, 0, 1], **given)


def lines_of(data):
    return [TypeAdapter(LogLine).validate_json(line) for line in data.splitlines()]


def published(folder):
    return sorted(folder.glob("feedback-*.jsonl"))


@pytest.fixture
def metrics():
    return Metrics([Task.QC], ["/v1/score"], ["/v1/score"], [])


def counted(metrics, name):
    """The values of a counter by its labels, without those at 0."""
    found = [each for family in metrics.registry.collect() for each in family.samples if each.name == name]
    return {tuple(sample.labels.values()): sample.value for sample in found if sample.value}


def opened(folder, metrics, **settings):
    return FeedbackLog.open(Settings(feedback_folder=folder, **settings), metrics.feedback)


def test_each_query_of_a_request_has_a_line_without_texts():
    data = scores().lines(KEY, "none")
    first, second = lines_of(data)
    assert [each.index for each in first.candidates] == [0, 1]
    assert [each.index for each in second.candidates] == [2]
    assert (first.query_hash, first.candidates[1].hash) == (hash_of("red shoes", KEY), hash_of("Home,Cups", KEY))
    assert not any(text in data.decode() for text in ("red shoes", "Sneakers", "靴"))


@pytest.mark.parametrize(("texts", "query", "candidate"), [("candidates", None, "Shoes"), ("all", "靴", "Shoes")])
def test_texts_are_logged_as_far_as_the_setting_says(texts, query, candidate):
    line = lines_of(scores().lines(KEY, texts))[1]
    assert (line.query, line.candidates[0].text) == (query, candidate)


def test_positions_are_those_of_the_answer_and_none_beyond_top_n():
    line = lines_of(scores(order=[1, 2]).lines(KEY, "none"))[0]
    assert line.ranked
    assert [each.position for each in line.candidates] == [None, 0]


def test_teams_and_the_challenger_are_logged():
    source = Source("request-1", Task.QC, "tiny", "abc", challenger="def")
    teams = [Team.ACTIVE, Team.CHALLENGER, Team.ACTIVE]
    entry = ScoresEntry(source, PAIRS, [0.9, 0.2, 0.5], [1, 0, 1], order=[0, 1, 2], teams=teams)
    line = lines_of(entry.lines(KEY, "none"))[0]
    assert line.challenger == "def"
    assert [each.team for each in line.candidates] == teams[:2]


def test_pairs_without_a_score_are_left_out():
    entry = ScoresEntry(SOURCE, PAIRS, [0.9, float("nan"), float("nan")], [1, 0, 0])
    (line,) = lines_of(entry.lines(KEY, "none"))
    assert [each.index for each in line.candidates] == [0]


def test_half_a_surrogate_pair_is_written():
    entry = ScoresEntry(SOURCE, [Pair("a\ud800", "b", "en")], [0.5], [1])
    assert json.loads(entry.lines(KEY, "all"))["query"] == "a\ud800"


def test_events_have_hashes_in_place_of_texts():
    events = [Event(FeedbackType.CLICK, index=3, position=0), Event(FeedbackType.JUDGEMENT, candidate="cup", grade="E")]
    click, judgement = lines_of(FeedbackEntry("request-1", "q", events).lines(KEY, "all"))
    assert (click.index, click.hash, click.position, click.query_hash) == (3, None, 0, hash_of("q", KEY))
    assert (judgement.index, judgement.hash, judgement.grade) == (None, hash_of("cup", KEY), "E")


def test_the_share_is_kept_and_independent_of_a_canarys():
    ids = [f"request-{number}" for number in range(20_000)]
    logged = [each for each in ids if sampled(each, 0.1)]
    assert len(logged) == pytest.approx(2000, abs=150)
    assert sum(in_share(each, 0.1) for each in logged) == pytest.approx(200, abs=60)
    assert not any(sampled(each, 0.0) for each in ids)
    assert all(sampled(each, 1.0) for each in ids)


def test_closing_writes_all_and_publishes_one_whole_file(tmp_path, metrics):
    log = opened(tmp_path / "log", metrics)
    assert all(log.offer(scores()) for _ in range(50))
    log.close()
    (file,) = published(tmp_path / "log")
    assert len(lines_of(file.read_bytes())) == 100
    assert counted(metrics, "relevance_feedback_lines_total") == {("scores",): 100}


def test_a_file_is_published_by_size(tmp_path, metrics):
    log = opened(tmp_path, metrics, feedback_file_bytes=2000)
    for _ in range(20):
        log.offer(scores())
    log.close()
    files = published(tmp_path)
    assert len(files) > 5
    assert sum(len(lines_of(file.read_bytes())) for file in files) == 40
    assert all(file.read_bytes().endswith(b"\n") for file in files)


def test_a_file_is_published_by_time_though_nothing_follows(tmp_path, metrics):
    log = opened(tmp_path, metrics, feedback_file_seconds=0.05)
    log.offer(scores())
    until = time.monotonic() + 30
    while not published(tmp_path) and time.monotonic() < until:
        time.sleep(0.02)
    assert len(lines_of(published(tmp_path)[0].read_bytes())) == 2
    log.close()


def test_a_full_queue_drops_and_counts(tmp_path, metrics, monkeypatch):
    monkeypatch.setattr(feedback_log, "MAX_QUEUED_CHARACTERS", scores().size)
    monkeypatch.setattr(FeedbackLog, "_run", lambda self: None)  # nothing is written
    log = opened(tmp_path, metrics)
    assert [log.offer(scores()) for _ in range(3)] == [True, False, False]
    assert counted(metrics, "relevance_feedback_dropped_total") == {("scores", "queue_full"): 2}


def test_a_full_folder_drops_and_counts_and_removes_nothing(tmp_path, metrics, caplog):
    (tmp_path / "feedback-old.jsonl").write_bytes(b"x" * 1000)
    log = opened(tmp_path, metrics, feedback_folder_bytes=1000)
    log.offer(scores())
    log.offer(scores())
    log.close()
    assert [file.name for file in published(tmp_path)] == ["feedback-old.jsonl"]
    assert counted(metrics, "relevance_feedback_dropped_total") == {("scores", "folder_full"): 2}
    assert sum("feedback_folder_bytes" in record.message for record in caplog.records) == 1


@contextlib.contextmanager
def largest_file(size):
    """Let this process write no file beyond this size, as on a full disk."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))


def test_a_failed_write_leaves_no_half_line(tmp_path):
    files = LogFiles(tmp_path, Settings())
    files.write(b"first\n")
    with largest_file(9), pytest.raises(OSError, match="File too large"):
        files.write(b"second\n")
    files.write(b"third\n")
    files.publish()
    assert published(tmp_path)[0].read_bytes() == b"first\nthird\n"


def test_a_failed_write_is_counted_and_what_follows_soon_is_dropped(tmp_path, metrics, caplog):
    with largest_file(100):
        log = opened(tmp_path, metrics)
        assert log.offer(scores())
        assert log.offer(scores())
        log.close()
    assert counted(metrics, "relevance_feedback_dropped_total") == {("scores", "write_failed"): 2}
    assert [record.message for record in caplog.records] == [
        f"feedback log: {tmp_path} cannot be written: File too large; entries are dropped"
    ]
    assert list(tmp_path.glob("*feedback*")) == []


def test_a_start_publishes_the_whole_lines_of_ended_writers_only(tmp_path, metrics):
    (tmp_path / ".feedback-ended.jsonl").write_bytes(b"x" * 100_000 + b"\n{half")
    (tmp_path / ".feedback-nothing.jsonl").write_bytes(b"{half")
    code = (
        "import pathlib, sys, time; from service.feedback.log_files import LogFiles; from service.settings import *\n"
        "files = LogFiles(pathlib.Path(sys.argv[1]), Settings()); files.write(b'alive\\n')\n"
        "print('ready', flush=True); time.sleep(600)"
    )
    writer = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, cwd=ROOT)
    try:
        assert writer.stdout.readline() == b"ready\n"
        opened(tmp_path, metrics).close()
        assert {file.name for file in published(tmp_path)} == {"feedback-ended.jsonl"}
        assert (tmp_path / "feedback-ended.jsonl").read_bytes() == b"x" * 100_000 + b"\n"
    finally:
        writer.kill()
        writer.communicate()
    opened(tmp_path, metrics).close()
    assert len(published(tmp_path)) == 2
    assert not list(tmp_path.glob(".feedback-*"))


def test_processes_of_the_same_host_id_and_second_write_a_file_each(tmp_path):
    both = [LogFiles(tmp_path, Settings()) for _ in range(2)]
    for files in both:
        files.write(b"{}\n")
    for files in both:
        files.publish()
    assert [file.read_bytes() for file in published(tmp_path)] == [b"{}\n"] * 2


@pytest.mark.parametrize("held", [False, True])
def test_a_new_file_that_another_process_adopts_before_it_is_locked_is_made_again(tmp_path, monkeypatch, held):
    """Two processes start at once. `held`: the other one still has the lock when this one asks for it."""
    flock, others = fcntl.flock, []

    def late(file, how):
        if not others:
            others.append(LogFiles(tmp_path, Settings()))
            if not held:
                others[0].adopt()
                return flock(file, how)
            with Path(file.name).open("rb+") as other:
                flock(other, how)
                return flock(file, how)
        return flock(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    files = LogFiles(tmp_path, Settings())
    files.write(b"{}\n")
    files.publish()
    (file,) = published(tmp_path)
    assert file.read_bytes() == b"{}\n"


def test_the_key_is_made_once_and_only_its_owner_reads_it(tmp_path):
    key = prepare(tmp_path / "log")
    assert prepare(tmp_path / "log") == key == read_key(tmp_path / "log")
    assert (tmp_path / "log" / KEY_FILE).stat().st_mode & 0o777 == 0o600
    assert prepare(tmp_path / "other") != key


def test_processes_of_the_same_id_that_start_at_once_have_one_key(tmp_path):
    """Containers of several replicas, each with process 1, and one folder: here as threads."""
    with ThreadPoolExecutor(8) as threads:
        for number in range(50):
            folder, together = tmp_path / str(number), threading.Barrier(8)

            def start(_, folder=folder, together=together):
                together.wait()
                return prepare(folder)

            assert set(threads.map(start, range(8))) == {read_key(folder)}
            assert [path.name for path in folder.iterdir()] == [KEY_FILE]


def test_a_damaged_key_and_a_folder_that_is_none_end_the_start(tmp_path):
    (tmp_path / KEY_FILE).write_text("cafe")
    with pytest.raises(ConfigError, match=r"\.hash-key: expected 32 bytes in hexadecimal"):
        prepare(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"feedback_folder .*file: .*; expected a folder to write into"):
        prepare(tmp_path / "file")


def test_without_a_folder_there_is_no_log(metrics):
    assert FeedbackLog.open(Settings(), metrics.feedback) is None


def test_every_field_of_a_line_is_known():
    line = json.loads(scores(order=[0]).lines(KEY, "all").splitlines()[0])
    assert set(line) == {field.alias or name for name, field in ScoresLine.model_fields.items()}
