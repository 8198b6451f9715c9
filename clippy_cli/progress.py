"""Progress of what takes long: one line that redraws on a terminal, silence elsewhere."""

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from clippy_cli import console
from clippy_core import events
from clippy_core.errors import visible

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn


SILENCE = 10.0
"""Seconds between plain lines at first; a tenth of the time that has passed is added."""
PACE_SAMPLES = 60
"""Seconds of the run that its present speed is taken from."""
MOST_NOTES = 20
BAR, ROOM_FOR_A_BAR = 30, 100
"""Columns of the bar, and how many a terminal needs to have it."""


class _Bar:
    """A bar on stderr if that is a terminal and ``--quiet`` was not asked for; else nothing."""

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._task: Any = None

    def _columns(self) -> "tuple[ProgressColumn, ...]":
        raise NotImplementedError

    def __enter__(self) -> Self:
        if console.interactive() and console.Settings.verbosity > console.QUIET:
            from rich.progress import Progress

            # Results must reach stdout as they are, so nothing is rerouted; see `aside`.
            self._bar = Progress(
                *self._columns(),
                console=console.messages(),
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Take the bar away while something else is printed to the same terminal."""
        if self._bar is None:
            yield
            return
        self._bar.stop()
        try:
            yield
        finally:
            self._bar.start()


class BatchProgress(_Bar):
    """A sink for runs over several pictures; names every input with ``--verbose``."""

    def __init__(self) -> None:
        super().__init__()
        self._failed = 0

    def _columns(self) -> "tuple[ProgressColumn, ...]":
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

        failures = TextColumn("{task.fields[failed]} failed")
        return TextColumn("segmenting"), BarColumn(), MofNCompleteColumn(), failures, TimeRemainingColumn()

    def __call__(self, event: events.Event) -> None:
        """Hear of an event."""
        if isinstance(event, events.BatchStarted) and self._bar is not None:
            self._task = self._bar.add_task("", total=event.total, completed=event.skipped, failed=0)
        elif isinstance(event, events.ItemFinished):
            self._failed += event.status == "failed"
            if self._bar is not None and self._task is not None:
                self._bar.update(self._task, advance=1, failed=self._failed)
            if console.Settings.verbosity == console.VERBOSE:
                console.notice(f"{event.status} {event.source} ({event.seconds:.2f} s)")


class Segmenting(BatchProgress):
    """A sink for ``clippy segment``: done, failed, left, pictures a second, time left, and what holds up the rest.

    On a terminal that is one line which redraws; elsewhere a plain line now and then, the more rarely the longer the
    run takes.

    Attributes:
        files: What was written that covers the whole run, once it has ended.
    """

    def __init__(self) -> None:
        super().__init__()
        self.files: tuple[Path, ...] = ()
        self._total = self._finished = self._noted = 0
        self._limit = ""
        self._began = self._spoke = time.monotonic()
        self._pace: deque[tuple[float, int]] = deque(maxlen=PACE_SAMPLES)

    def _columns(self) -> "tuple[ProgressColumn, ...]":
        from rich.progress import BarColumn, TextColumn

        text = TextColumn("{task.fields[state]}", markup=False)
        if console.messages().width < ROOM_FOR_A_BAR:
            return TextColumn("segmenting"), text
        return TextColumn("segmenting"), BarColumn(bar_width=BAR), text

    def __call__(self, event: events.Event) -> None:
        """Hear of an event."""
        if isinstance(event, events.BatchStarted):
            self._total, self._finished = event.total, event.skipped
            if self._bar is not None:
                self._task = self._bar.add_task("", total=event.total, completed=event.skipped, state=self._line())
        elif isinstance(event, events.ItemFinished):
            self._count(event)
        elif isinstance(event, events.StagesObserved):
            self._limit = event.limit
        elif isinstance(event, events.BatchFinished):
            self.files = event.files
        elif isinstance(event, events.Noticed):
            with self.aside():
                console.warn(event.text) if event.serious else console.notice(event.text)

    def state(self) -> str:
        """Failures, speed, time left and the stage that limits, as far as they are known."""
        return " · ".join(self._parts())

    def _line(self) -> str:
        """Inputs done, and of the rest what there is room for beside them."""
        width = console.messages().width
        room = width - len("segmenting ") - (BAR + 1 if width >= ROOM_FOR_A_BAR else 0)
        line = f"{self._finished:,}/{self._total:,}"
        for part in self._parts():
            if len(line) + len(part) + 3 > room:
                break
            line += f" · {part}"
        return line

    def _parts(self) -> list[str]:
        parts = [f"{self._failed:,} failed"] if self._failed else []
        if not self._pace:
            return parts
        # Speed begins with the first input: loading the model is no part of it.
        (since, before), now = self._pace[0], time.monotonic()
        if self._finished > before and now - since >= 1:
            speed = (self._finished - before) / (now - since)
            parts += [f"{speed:.3g}/s", f"{duration((self._total - self._finished) / speed)} left"]
        if self._limit:
            parts.append(f"limit: {self._limit}")
        return parts

    def _count(self, event: events.ItemFinished) -> None:
        self._finished += 1
        self._failed += event.status == "failed"
        now = time.monotonic()
        if not self._pace or now - self._pace[-1][0] >= 1:
            self._pace.append((now, self._finished))
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, advance=1, state=self._line())
        elif console.Settings.verbosity > console.QUIET and now - self._spoke > SILENCE + (now - self._began) / 10:
            self._spoke = now
            console.notice(" · ".join(filter(None, [f"{self._finished:,} of {self._total:,}", self.state()])))
        self._say(event)

    def _say(self, event: events.ItemFinished) -> None:
        verbose = console.Settings.verbosity == console.VERBOSE
        if not event.notes and not verbose:
            return
        with self.aside():
            if verbose:
                console.notice(f"{event.status} {event.source} ({event.seconds:.2f} s)")
            for note in event.notes:
                self._noted += 1
                if self._noted <= MOST_NOTES or verbose:
                    console.warn(f"{visible(str(event.source))}: {note}")
                elif self._noted == MOST_NOTES + 1:
                    console.warn("there are more such notes; the manifest has all of them")


def duration(seconds: float) -> str:
    """Time as people say it: ``42 s``, ``3 min``, ``2 h 05 min``, ``3 d 4 h``."""
    minutes, hours = round(seconds / 60), int(seconds / 3600)
    if seconds < 90:
        return f"{seconds:.0f} s"
    if minutes < 90:
        return f"{minutes} min"
    if hours < 48:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{hours // 24} d {hours % 24} h"


class Bytes(_Bar):
    """Hears of bytes arrived.

    Args:
        title: What is being fetched.
    """

    def __init__(self, title: str) -> None:
        super().__init__()
        self._title = title

    def _columns(self) -> "tuple[ProgressColumn, ...]":
        from rich.progress import BarColumn, DownloadColumn, TextColumn, TransferSpeedColumn

        return TextColumn(self._title), BarColumn(), DownloadColumn(), TransferSpeedColumn()

    def __call__(self, arrived: int, total: int | None) -> None:
        """So many bytes are here, of so many."""
        if self._bar is None:
            return
        if self._task is None:
            self._task = self._bar.add_task("", total=total)
        self._bar.update(self._task, completed=arrived, total=total)
