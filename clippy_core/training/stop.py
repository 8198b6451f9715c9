"""Being asked to stop: the step that is running is finished and saved first."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

ASKED = (signal.SIGTERM, signal.SIGINT)


class StopRequests:
    """Hears of SIGTERM and Ctrl-C while it is entered; the first one counts, further ones do no harm.

    Attributes:
        number: The signal that came, or 0.
    """

    def __init__(self) -> None:
        self.number = 0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._hear) for number in ASKED}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self.number = self.number or number
