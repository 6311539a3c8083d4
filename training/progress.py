"""Progress of long work: a live bar on a terminal, a plain line every few seconds elsewhere. Both on stderr."""

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn


class Meter:
    """Counts units of work (a pair, a row) up to a total; used as a context manager."""

    def __init__(self, label: str, total: int, unit: str, done: int = 0, every_seconds: float = 10.0) -> None:
        self.label, self.total, self.unit, self.done = label, total, unit, done
        self._every_seconds = every_seconds
        self._begun = self._spoke = time.monotonic()
        self._at_start = done
        self._bar: Progress | None = None
        if sys.stderr.isatty():
            columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
            self._bar = Progress(*columns, TextColumn("{task.fields[note]}"), console=Console(stderr=True))
            self._row = self._bar.add_task(label, total=total, completed=done, note="")

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    @property
    def per_second(self) -> float:
        """Units done a second since the meter was made."""
        return (self.done - self._at_start) / max(time.monotonic() - self._begun, 1e-9)

    def advance(self, units: int, note: str = "") -> None:
        """Add finished units and show where the work stands."""
        self.done += units
        note = f"{self.per_second:,.0f} {self.unit}/s  {note}".rstrip()
        if self._bar:
            self._bar.update(self._row, completed=self.done, note=note)
        elif time.monotonic() - self._spoke >= self._every_seconds:
            self._spoke = time.monotonic()
            left = (self.total - self.done) / max(self.per_second, 1e-9)
            share = 100 * self.done / max(self.total, 1)
            line = f"{self.label}: {self.done:,}/{self.total:,} ({share:.0f}%)  {note}  {left:.0f} s left"
            print(line, file=sys.stderr, flush=True)
