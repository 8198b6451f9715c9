"""Training as it is seen: a dashboard on a terminal, plain lines elsewhere."""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

from rich.console import Console, ConsoleOptions
from rich.control import Control
from rich.file_proxy import FileProxy
from rich.live import Live
from rich.segment import ControlType, Segment

from clippy_cli import console
from clippy_cli.curves import Line
from clippy_cli.plain_log import PlainLog, ending, say
from clippy_cli.run_state import RunState
from clippy_cli.screen import Look, compose
from clippy_core import events

__all__ = ["Dashboard", "PlainLog", "training_display"]

SHORTEST_WAIT = 0.5  # seconds between two frames, at least
SHARE = 0.015  # of the processor's time that drawing may take
GPU_SPACING = 2.0  # seconds between two questions about the GPU
HISTORY = 2000  # steps of an earlier part of the run that make its curves
FEWEST = (20, 6)  # columns and lines below which a dashboard makes no sense


def training_display(rich: bool = True) -> "Dashboard | PlainLog":
    """What shows training on stderr: a context manager and a sink.

    A dashboard if stderr is a terminal that can redraw; plain lines elsewhere, with ``--quiet``, or if ``rich`` is
    False.
    """
    size = console.messages().size
    roomy = size.width >= FEWEST[0] and size.height >= FEWEST[1]
    if rich and roomy and console.interactive() and console.Settings.verbosity > console.QUIET:
        return Dashboard()
    return PlainLog()


class Dashboard:
    """A live picture of a training run on stderr, redrawn at most twice a second.

    Nothing is drawn before the first event, and hearing of one only updates numbers. A thread draws, and waits the
    longer the longer drawing took, so that it never takes more than 1.5 % of a processor. A terminal that has gone
    ends the drawing, not the training.

    Args:
        target: The console to draw on; None for the one on stderr.
        clock: Seconds.
    """

    def __init__(self, target: Console | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.state = RunState(clock)
        self._console = target or console.messages()
        self._look = Look.of(self._console)
        self._size = self._console.size
        self._gpu = _GpuUse(clock)
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._draw_on, name="dashboard", daemon=True)
        # Results must reach stdout as they are; what libraries say on stderr goes above the dashboard.
        self._live = Live(
            console=self._console,
            get_renderable=self._frame,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=True,
            vertical_overflow="crop",
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._thread.ident is None:
            return
        self._thread.join()
        with _forgiving():
            self._live.stop()
        for line in ending(self.state) if self.state.started else []:
            say(line)
        for notice in self.state.notices:
            if notice.serious:
                say(notice.text + (f" ({notice.times:,} times)" if notice.times > 1 else ""), serious=True)

    def __call__(self, event: events.Event) -> None:
        """Hear of an event."""
        with self._lock:
            if isinstance(event, events.TrainingStarted) and event.step:
                self._remember(event)
            self.state(event)
        if self._thread.ident is None and not self._stop.is_set():
            self._thread.start()

    def refresh(self) -> None:
        """Draw now."""
        size = self._console.size
        if size != self._size:  # lines that were too long for the new width were broken: begin anew
            self._size = size
            self._console.control(Control(ControlType.HOME, ControlType.CLEAR))
        self._live.refresh()

    def _frame(self) -> "_Frame":
        width, height = self._console.size
        self._gpu.ask(self.state)
        with self._lock:
            return _Frame(compose(self.state, width, max(1, height - 1), self._look, self._gpu.percent))

    def _draw_on(self) -> None:
        wait = 0.0
        os.register_at_fork(after_in_child=_speak_directly)
        with _forgiving():
            self._live.start()
            while not self._stop.wait(wait):
                begun = time.thread_time()
                self.refresh()
                wait = max(SHORTEST_WAIT, (time.thread_time() - begun) / SHARE)

    def _remember(self, run: events.TrainingStarted) -> None:
        """Begin the curves of a resumed run where the run began."""
        from clippy_core.training.metrics_log import read_metrics

        for record in read_metrics(run.folder, HISTORY):
            loss, scale = record.get("loss"), record.get("logit_scale")
            if record["step"] <= run.step and isinstance(loss, float) and isinstance(scale, float):
                self.state.remember(record["step"], loss, scale)


def _speak_directly() -> None:
    """Give a worker that was forked its stderr back: the drawing thread, and whoever held its locks, is not there."""
    if isinstance(sys.stderr, FileProxy):
        sys.stderr = sys.stderr.rich_proxied_file


@contextlib.contextmanager
def _forgiving() -> Iterator[None]:
    """A terminal that has gone is written to no more."""
    try:
        yield
    except OSError:
        console.give_up(sys.stderr)


class _Frame:
    """Lines as a Rich renderable."""

    def __init__(self, lines: list[Line]) -> None:
        self._lines = lines

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        for number, line in enumerate(self._lines):
            if number:
                yield Segment.line()
            yield from line


class _GpuUse:
    """How busy the GPU of this process is, where torch can tell at once."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.percent: int | None = None
        self._clock = clock
        self._next = 0.0

    def ask(self, state: RunState) -> None:
        """Update ``percent``, not more often than is cheap."""
        torch = sys.modules.get("torch")
        if torch is None or state.started is None or not state.started.device.startswith("cuda"):
            return
        # To ask in a process that does not use the GPU would take some of its memory.
        if self._clock() < self._next or not torch.cuda.is_initialized():
            return
        self._next = self._clock() + GPU_SPACING
        try:
            self.percent = torch.cuda.utilization()
        except Exception:  # the driver's library is missing or refuses, each in its own words: never ask again
            self.percent, self._next = None, float("inf")
