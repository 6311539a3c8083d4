"""Threads on a shared machine: how many, how they wait, and what the progress line says when the rate falls."""

import os
import subprocess
import sys

import pytest

from relevance.model import cores
from relevance.model.cores import usable_cores
from training import progress
from training.progress import Meter, Pace
from training.threads import PASSIVE, CoreUsage, free_threads, others_busy, slow_because

SHOW = "import os, training; print(os.environ.get('OMP_WAIT_POLICY'), os.environ.get('GOMP_SPINCOUNT'))"


def shown(**variables):
    environment = {name: value for name, value in os.environ.items() if name not in PASSIVE} | variables
    done = subprocess.run([sys.executable, "-c", SHOW], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_threads_wait_passively_unless_the_user_says_otherwise():
    assert shown() == ["PASSIVE", "0"]
    assert shown(OMP_WAIT_POLICY="ACTIVE") == ["ACTIVE", "None"]


@pytest.mark.parametrize(
    ("allowed", "busy", "threads"), [(2, 0.0, 2), (2, 0.2, 2), (2, 1.0, 1), (2, 5.0, 1), (16, 7.6, 8), (1, 0.9, 1)]
)
def test_free_cores_become_threads(allowed, busy, threads):
    assert free_threads(allowed, busy) == threads


def test_a_busy_neighbour_is_seen():
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[:1])
    neighbour = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        usage = CoreUsage.now()
        while not usage.others_since() > 0.2:  # until the kernel has counted some of its time
            others_busy(0.1)
        assert usable_cores() == 1
        assert "other processes keep" in slow_because(CoreUsage(usage.all_seconds - 1e6, usage.own_seconds, usage.at))
    finally:
        neighbour.kill()
        neighbour.wait()
        os.sched_setaffinity(0, cores)


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def paced(*rates):
    """Return the warnings after windows of ten seconds at these rates."""
    clock = Clock()
    pace, warnings = Pace("pairs", clock=clock), []
    for rate in rates:
        clock.now += 10
        pace.add(rate * 10)
        warnings.append(pace.warning)
    return warnings


def test_a_fall_of_the_rate_is_said_with_its_cause_and_goes_with_it():
    before, fallen, better = paced(88, 3, 80)
    assert before == better == ""
    assert fallen.startswith("rate fell to 3 from 88 pairs/s: ")


def test_a_slow_start_is_no_fall():
    assert paced(3, 40, 88, 50) == [""] * 4


def test_pauses_do_not_count():
    clock = Clock()
    pace = Pace("pairs", clock=clock)
    clock.now = 10
    pace.add(880)
    clock.now = 120
    pace.skip(100)
    pace.add(880)
    assert pace.warning == ""


def test_the_progress_line_carries_the_warning(monkeypatch, capsys):
    monkeypatch.setattr(progress, "EVERY_SECONDS", 0.0)
    pace = Pace("pairs")
    pace.warning = "rate fell"
    with Meter("training", 10, "pairs", pace=pace) as meter:
        meter.advance(1, "loss 0.5")
    assert "loss 0.5  rate fell" in capsys.readouterr().err


def test_of_meters_within_one_another_the_outermost_shows_unless_it_is_paused(monkeypatch, capsys):
    monkeypatch.setattr(progress, "EVERY_SECONDS", 0.0)

    def inner(unit="pairs"):
        with Meter("inner", 4, unit) as meter:
            meter.advance(1, "of the inner")
        return capsys.readouterr().err

    with Meter("outer", 10, "pairs", done=2) as outer:
        assert inner().startswith("outer: 3/10 (30%)")
        shown = inner("texts")
        assert shown.startswith("outer: 2/10 (20%)  0 pairs/s")
        assert "left" not in shown
        assert "inner" not in shown
        outer.advance(8, "of the outer")
        assert capsys.readouterr().err.startswith("outer: 10/10")
        shown = inner()  # those of the inner one count already
        assert shown.startswith("outer: 10/10")
        assert "of the outer" in shown
        with outer.paused():
            assert inner().startswith("inner: 1/4")
    assert inner().startswith("inner: 1/4")


def test_a_meter_that_outlives_a_pause_leaves_the_others_alone(monkeypatch, capsys):
    monkeypatch.setattr(progress, "EVERY_SECONDS", 0.0)
    with Meter("outer", 10, "pairs") as outer:
        with outer.paused():
            left = Meter("left", 3, "pairs").__enter__()
        left.__exit__(None, None, None)
        outer.advance(1)
    assert capsys.readouterr().err.startswith("outer: 1/10")


@pytest.mark.parametrize(("seconds", "is_shown"), [(0.0, True), (60.0, False)])
def test_on_a_terminal_work_that_takes_no_time_shows_no_bar(monkeypatch, capsys, seconds, is_shown):
    monkeypatch.setattr(progress, "BAR_SECONDS", seconds)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with Meter("embed", 2, "text") as meter:
        meter.advance(1)
    assert ("embed" in capsys.readouterr().err) is is_shown


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu.max": "max 100000\n"}, 8),
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
        ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
        ({}, 8),
    ],
)
def test_a_container_with_a_quota_has_fewer_cores(tmp_path, monkeypatch, files, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(cores, "CGROUP", tmp_path)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert usable_cores() == expected
