"""``manifest.jsonl``: what became of every input of a run, one line each.

A line is appended after the outputs of its input are in place, so what a killed run had finished is known, and what
it had begun is not. Later lines replace earlier ones of the same input; a run that ends writes the file anew with one
line an input, in the order of the inputs.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from clippy_core.files import to_json, write_bytes

NAME = "manifest.jsonl"
OK, FAILED, SKIPPED = "ok", "failed", "skipped"


@dataclass(frozen=True)
class Record:
    """What became of one input.

    Attributes:
        input: The input as reached from what the user gave.
        status: ``ok``, ``failed`` or ``skipped`` (finished by an earlier run).
        outputs: Files written, relative to the output folder.
        error: One line for a failed input, else None.
        run: Digest of everything that determines the outputs; a change of labels or options makes inputs unfinished.
        seconds: Wall time.
    """

    input: str
    status: str
    outputs: list[str] = field(default_factory=list)
    error: str | None = None
    run: str = ""
    seconds: float = 0.0


class Manifest:
    """The manifest of an output folder.

    Args:
        out: The output folder.
        run: Digest of the run's settings, from :func:`digest`.
    """

    def __init__(self, out: Path, run: str) -> None:
        self.out = out
        self.path = out / NAME
        self.run = run
        self._records: dict[str, Record] = {}
        self._owner: dict[str, str] = {}
        for record in _read(self.path):
            self._add(record)

    def finished(self, source: str) -> Record | None:
        """The record of an input that an earlier run with the same settings finished and whose outputs are there."""
        record = self._records.get(source)
        if record is None or record.status == FAILED or record.run != self.run:
            return None
        return record if all((self.out / name).is_file() for name in record.outputs) else None

    def append(self, record: Record) -> None:
        """Add a line and flush it to disk."""
        self._add(record)
        self.out.mkdir(parents=True, exist_ok=True)
        with open(self.path, "ab") as file:
            # A killed run may have left half a line; starting on a new one keeps ours readable.
            start = b"\n" if file.tell() and not _ends_with_newline(self.path) else b""
            file.write(start + _line(record))
            file.flush()
            os.fsync(file.fileno())

    def _add(self, record: Record) -> None:
        """Keep the record; an input whose outputs it wrote over is no longer finished."""
        self._records[record.input] = record
        for name in record.outputs:
            before = self._owner.get(name, record.input)
            if before != record.input:
                self._records.pop(before, None)
            self._owner[name] = record.input

    def rewrite(self, sources: Iterable[str]) -> None:
        """Write the file anew: the given inputs in their order, then inputs of earlier runs."""
        order = dict.fromkeys([*sources, *self._records])
        write_bytes(self.path, b"".join(_line(self._records[source]) for source in order if source in self._records))


def digest(settings: dict[str, Any]) -> str:
    """A short digest of a run's settings."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _line(record: Record) -> bytes:
    return to_json(asdict(record))


def _ends_with_newline(path: Path) -> bool:
    with open(path, "rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def _read(path: Path) -> Iterator[Record]:
    if not path.is_file():
        return
    for line in path.read_bytes().split(b"\n"):
        try:
            record = Record(**json.loads(line))
        except (ValueError, TypeError):
            continue  # half a line of a killed run: that input counts as unfinished
        if isinstance(record.input, str) and isinstance(record.outputs, list):
            yield record
