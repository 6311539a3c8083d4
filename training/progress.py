"""Progress of long work: a live bar on a terminal, a plain line every few seconds elsewhere. Both on stderr."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import ClassVar, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from training.threads import CoreUsage, slow_because

EVERY_SECONDS = 10.0
BAR_SECONDS = 1.0  # work that takes less shows no bar
SLOW_SHARE = 0.4  # of the best rate seen in the run


class Pace:
    """Measures the rate of work in windows of some seconds; `warning` is set while it is far below the best seen."""

    def __init__(self, unit: str, seconds: float = EVERY_SECONDS, clock: Callable[[], float] = time.monotonic) -> None:
        self.warning = ""
        self._unit, self._seconds, self._clock = unit, seconds, clock
        self._best = 0.0
        self._begin()

    def add(self, units: int) -> None:
        """Count finished units; at the end of a window, judge its rate."""
        self._units += units
        passed = self._clock() - self._begun
        if passed < self._seconds:
            return
        rate = self._units / passed
        self._best = max(self._best, rate)
        fell = f"rate fell to {rate:,.0f} from {self._best:,.0f} {self._unit}/s"
        self.warning = f"{fell}: {slow_because(self._usage)}" if rate < SLOW_SHARE * self._best else ""
        self._begin()

    def skip(self, seconds: float) -> None:
        """Exclude time in which other work was done."""
        self._begun += seconds

    def _begin(self) -> None:
        self._begun, self._units, self._usage = self._clock(), 0, CoreUsage.now()


class Meter:
    """Counts units of work (a pair, a row) up to a total; used as a context manager.

    `pace` is for work of this machine's cores: the progress line then says why where its rate falls. Of meters within
    one another, unless the outer one is paused, the outermost alone shows. It shows whenever one of them advances, and
    what those of its unit have done counts with its own.
    """

    _open: ClassVar[list["Meter"]] = []  # within one another, the outermost first

    def __init__(self, label: str, total: int, unit: str, done: int = 0, pace: Pace | None = None) -> None:
        self.label, self.total, self.unit, self.done = label, total, unit, done
        self._pace, self._note = pace, ""
        self._begun = self._spoke = time.monotonic()
        self._at_start = done
        self._bar: Progress | None = None
        if sys.stderr.isatty():
            columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
            self._bar = Progress(*columns, TextColumn("{task.fields[note]}"), console=Console(stderr=True))
            self._row = self._bar.add_task(label, total=total, completed=done, note="")

    def __enter__(self) -> Self:
        Meter._open.append(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self in Meter._open:  # else a generator holds it that outlived a pause of the meter around it
            Meter._open.remove(self)
        if self._bar and self._bar.live.is_started:
            self._bar.stop()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Do other work, as an evaluation, whose time does not count against the pace."""
        begun, outer = time.monotonic(), Meter._open
        Meter._open = []
        try:
            yield
        finally:
            Meter._open = outer
            if self._pace:
                self._pace.skip(time.monotonic() - begun)

    def advance(self, units: int, note: str = "") -> None:
        """Add finished units and show where the work stands."""
        self.done += units
        if self._pace:
            self._pace.add(units)
            note = f"{note}  {self._pace.warning}"
        self._note = note
        for outermost in Meter._open[:1]:
            outermost._show()

    def _show(self) -> None:
        done = min(self.total, sum(each.done for each in Meter._open if each.unit == self.unit))
        seconds = time.monotonic() - self._begun
        rate = (done - self._at_start) / max(seconds, 1e-9)
        note = f"{rate:,.0f} {self.unit}/s  {self._note}".rstrip()
        if self._bar:
            if seconds >= BAR_SECONDS:
                self._bar.start()
            self._bar.update(self._row, completed=done, note=note)
        elif time.monotonic() - self._spoke >= EVERY_SECONDS:
            self._spoke = time.monotonic()
            share = 100 * done / max(self.total, 1)
            left = f"  {(self.total - done) / rate:.0f} s left" if rate > 0 else ""
            line = f"{self.label}: {done:,}/{self.total:,} ({share:.0f}%)  {note}{left}"
            print(line, file=sys.stderr, flush=True)
