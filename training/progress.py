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

    `pace` is for work of this machine's cores: the progress line then says why where its rate falls. A meter within
    another one, unless that is paused, shows nothing: the outer one tells how far the work is.
    """

    _shown: ClassVar["Meter | None"] = None

    def __init__(self, label: str, total: int, unit: str, done: int = 0, pace: Pace | None = None) -> None:
        self.label, self.total, self.unit, self.done = label, total, unit, done
        self._pace = pace
        self._begun = self._spoke = time.monotonic()
        self._at_start = done
        self._bar: Progress | None = None
        if sys.stderr.isatty():
            columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
            self._bar = Progress(*columns, TextColumn("{task.fields[note]}"), console=Console(stderr=True))
            self._row = self._bar.add_task(label, total=total, completed=done, note="")

    def __enter__(self) -> Self:
        if Meter._shown is None:
            Meter._shown = self
            if self._bar:
                self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if Meter._shown is self:
            Meter._shown = None
            if self._bar:
                self._bar.stop()

    @property
    def per_second(self) -> float:
        """Units done a second since the meter was made."""
        return (self.done - self._at_start) / max(time.monotonic() - self._begun, 1e-9)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Do other work, as an evaluation, whose time does not count against the pace."""
        begun, shown = time.monotonic(), Meter._shown
        Meter._shown = None
        try:
            yield
        finally:
            Meter._shown = shown
            if self._pace:
                self._pace.skip(time.monotonic() - begun)

    def advance(self, units: int, note: str = "") -> None:
        """Add finished units and show where the work stands."""
        self.done += units
        if self._pace:
            self._pace.add(units)
            note = f"{note}  {self._pace.warning}"
        if Meter._shown is not self:
            return
        note = f"{self.per_second:,.0f} {self.unit}/s  {note}".rstrip()
        if self._bar:
            self._bar.update(self._row, completed=self.done, note=note)
        elif time.monotonic() - self._spoke >= EVERY_SECONDS:
            self._spoke = time.monotonic()
            left = (self.total - self.done) / max(self.per_second, 1e-9)
            share = 100 * self.done / max(self.total, 1)
            line = f"{self.label}: {self.done:,}/{self.total:,} ({share:.0f}%)  {note}  {left:.0f} s left"
            print(line, file=sys.stderr, flush=True)
