"""What happens during a long job, as small records that anything may listen to.

Jobs emit events to a sink; progress lines, dashboards and log files are sinks. The core never knows what draws them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class BatchStarted:
    """A run over several inputs begins; ``skipped`` of ``total`` were finished by an earlier run."""

    total: int
    skipped: int


@dataclass(frozen=True)
class ItemFinished:
    """One input is done; ``error`` is the one-line reason if it failed."""

    source: Path | str
    status: str
    error: str | None
    seconds: float


@dataclass(frozen=True)
class BatchFinished:
    """The run over several inputs ended."""

    done: int
    failed: int
    skipped: int
    seconds: float


Event = BatchStarted | ItemFinished | BatchFinished
Sink = Callable[[Event], None]


def ignore(event: Event) -> None:
    """A sink for callers that do not listen."""
