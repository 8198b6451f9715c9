"""``metrics.jsonl`` and ``validation.jsonl`` in a run's folder: one line a step, whatever kills the run."""

import json
import math
import os
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from clippy_core.events import Event, StepFinished, Validated
from clippy_core.files import atomic_write, to_json

METRICS, VALIDATION = "metrics.jsonl", "validation.jsonl"


class MetricsLog:
    """A sink that writes one JSON object a step, and one a validation.

    A line goes to the system in one piece as soon as its event is heard, so that a killed process loses none and
    leaves at most half of the last one, which the next run drops. Numbers that are not finite are written as null;
    fields that say nothing (None, or an empty list) are left out.

    Args:
        folder: The run's folder; made if it is missing.
        step: Steps that are done already. What the files hold of later steps, from a run that was killed after its
            last checkpoint, is removed, so that every step is there once.

    Raises:
        OSError: The files cannot be read or written; here, or from any call.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self._files: dict[str, int] = {}
        folder.mkdir(parents=True, exist_ok=True)
        for name in (METRICS, VALIDATION):
            _remove_later(folder / name, step)
        # Only a run that validates has the second file.
        self._folder = folder
        self._open(METRICS)

    def __call__(self, event: Event) -> None:
        """Hear of an event."""
        if isinstance(event, StepFinished):
            self._append(METRICS, asdict(event))
        elif isinstance(event, Validated):
            metrics = {name: float(value) for name, value in event.metrics.items()}
            self._append(VALIDATION, {"step": event.step, "seconds": event.seconds, **metrics})

    def close(self) -> None:
        """Let go of the files; nothing is waiting to be written."""
        while self._files:
            os.close(self._files.popitem()[1])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self, name: str) -> int:
        if name not in self._files:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            self._files[name] = os.open(self._folder / name, flags, 0o666)
        return self._files[name]

    def _append(self, name: str, record: dict[str, Any]) -> None:
        line = to_json({key: _valid(value) for key, value in record.items() if value not in (None, ())})
        while line:  # one write, unless a disk is full: then the next one says so
            line = line[os.write(self._open(name), line) :]


def read_metrics(folder: Path, limit: int) -> list[dict[str, Any]]:
    """Steps of ``metrics.jsonl``, at most about ``limit`` of them, evenly spread over the file.

    Reads no more than it returns, so that it takes a moment for a run of any length. A missing file has no steps.
    """
    try:
        with open(folder / METRICS, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            first = len(file.readline())
            spacing = 0 if first * limit >= size else size // limit
            records, position = [], 0
            while position < size:
                file.seek(max(position - 1, 0))
                if position:
                    file.readline()  # the rest of a line that began before
                records.append(_parse(file.readline()))
                position = max(file.tell(), position + spacing)
    except FileNotFoundError:
        return []
    return [record for record in records if record is not None]


def _remove_later(path: Path, step: int) -> None:
    """Rewrite the file without lines of later steps and without broken ones."""
    try:
        with open(path, "rb") as earlier, atomic_write(path) as kept:
            kept.writelines(_until(earlier, step))
    except FileNotFoundError:
        return


def _until(lines: Iterable[bytes], step: int) -> Iterable[bytes]:
    for line in lines:
        record = _parse(line)
        if record is not None and record["step"] <= step:
            yield line


def _parse(line: bytes) -> dict[str, Any] | None:
    """The object in a line; None for half a line, or one that is none of ours."""
    try:
        record = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
    return record if isinstance(record, dict) and isinstance(record.get("step"), int) else None


def _valid(value: Any) -> Any:
    """``value`` with null for numbers that JSON does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return [_valid(item) for item in value] if isinstance(value, tuple) else value
