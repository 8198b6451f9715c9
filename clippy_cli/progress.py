"""Progress of a run over several pictures: one line that redraws on a terminal, silence elsewhere."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from clippy_cli import console
from clippy_core import events


class BatchProgress:
    """A sink that draws a bar on stderr if that is a terminal, and names failures as they happen with ``--verbose``."""

    def __init__(self) -> None:
        self._bar = None
        self._task = None
        self._failed = 0

    def __enter__(self) -> Self:
        if console.interactive() and console.Settings.verbosity > console.QUIET:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (
                TextColumn("segmenting"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[failed]} failed"),
                TimeRemainingColumn(),
            )
            # Results must reach stdout as they are, so nothing is rerouted; see `aside`.
            self._bar = Progress(
                *columns, console=console.messages(), transient=True, redirect_stdout=False, redirect_stderr=False
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


class Bytes:
    """Hears of bytes arrived; a bar on a terminal, silence elsewhere.

    Args:
        title: What is being fetched.
    """

    def __init__(self, title: str) -> None:
        self._title = title
        self._bar = None
        self._task = None

    def __enter__(self) -> Self:
        if console.interactive() and console.Settings.verbosity > console.QUIET:
            from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

            columns = (TextColumn(self._title), BarColumn(), DownloadColumn(), TransferSpeedColumn())
            self._bar = Progress(*columns, console=console.messages(), transient=True)
            self._task = self._bar.add_task("", total=None)
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, arrived: int, total: int | None) -> None:
        """So many bytes are here, of so many."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=arrived, total=total)
