"""Progress of what takes long: one line that redraws on a terminal, silence elsewhere."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from clippy_cli import console
from clippy_core import events

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn


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
