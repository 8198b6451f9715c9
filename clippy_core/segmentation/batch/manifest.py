"""``manifest.jsonl``: what became of every input of a run, one line each.

A line is appended after the outputs of its input are in place, so what a killed run had finished is known, and what
it had begun is not. Later lines replace earlier ones of the same input; a run that ends writes the file anew with one
line an input, in the order of the inputs.

Every line reaches the system at once, which a killed process does not undo. That it reaches the disk is made sure of
for many lines together: what a power cut takes away is done again by the next run.
"""

import hashlib
import json
import os
import time
from array import array
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import IO, Any, overload

from clippy_core.files import atomic_write, to_json
from clippy_core.segmentation.writers import FRAGMENTS

NAME = "manifest.jsonl"
OK, FAILED, SKIPPED = "ok", "failed", "skipped"
BEGUN = "begun"
"""What is told of an input before its outputs are written, with those that it is to have; never in a manifest."""
COMMIT_SECONDS, COMMIT_LINES = 1.0, 256
"""Lines reach the disk after so many seconds or lines, whichever comes first."""
NOTHING_STALE = b'"stale": {}'


@dataclass(frozen=True, slots=True)
class Record:
    """What became of one input.

    Attributes:
        input: The input as reached from what the user gave.
        status: ``ok``, ``failed`` or ``skipped`` (finished by an earlier run).
        outputs: Files written, relative to the output folder.
        error: One line for a failed input, else None.
        run: Digest of everything that determines the outputs; a change of labels or options makes inputs unfinished.
        seconds: Work on it, without waiting for its turn.
        labels: Share of the pixels of every label that has any, 0…1.
        notes: One line for each thing that was decided for the user.
        stem: Where the outputs go, relative to the output folder, without a suffix.
        left: Files of earlier runs on this input by name, of kinds that this one did not write, which stay as they are;
            the value is the kind, see :func:`kind_of`.
        stale: The same of kinds that it did write, which go when the run ends.
    """

    input: str
    status: str
    outputs: list[str] = field(default_factory=list)
    error: str | None = None
    run: str = ""
    seconds: float = 0.0
    labels: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    stem: str = ""
    left: dict[str, str] = field(default_factory=dict)
    stale: dict[str, str] = field(default_factory=dict)

    @property
    def files(self) -> dict[str, str]:
        """All files that it speaks of, with their kinds."""
        return {name: kind_of(name, self.stem) for name in self.outputs} | self.left | self.stale


class Manifest:
    """The manifest of an output folder. Only where each line stands is kept in memory, not the lines.

    Args:
        out: The output folder.
        run: Digest of the run's settings, from :func:`digest`.
    """

    def __init__(self, out: Path, run: str) -> None:
        self.out = out
        self.path = out / NAME
        self.run = run
        self._places: dict[str, int] = {}
        self._owner: dict[int, str] = {}
        self._current: set[str] = set()
        self._lost: set[str] = set()
        self._whole = False
        self._uncommitted, self._committed_at = 0, time.monotonic()
        for place, record in read_records(self.path):
            self._add(record, place)

    def __contains__(self, source: str) -> bool:
        return source in self._places

    def finished(self, source: str, stem: str = "") -> Record | None:
        """The record of an input that an earlier run finished with the same settings, and whose outputs are there.

        Args:
            source: The input.
            stem: Where its outputs are to go.
        """
        record = None if source in self._lost else self._last(source)
        if record is None or record.status == FAILED or (record.run, record.stem) != (self.run, stem):
            return None
        if not all((self.out / name).is_file() for name in record.outputs):
            return None
        self._current.add(source)
        return record

    def withdraw(self, source: str, outputs: Sequence[str] = ()) -> None:
        """Take back that an input is finished, and whoever else has one of its outputs, before they are written over.

        Args:
            source: The input.
            outputs: What is to be written for it, as far as that is known.
        """
        last = self._last(source)
        if last is not None and last.status != FAILED:
            self._write(failed(last, f"{source}: it was begun anew by a run that did not end"))
        owners = {self._owner.get(hash(name), source): name for name in outputs}
        for other in sorted(owners.keys() - {source} - self._current):
            self._write_over(other, owners[other], source)

    def append(self, record: Record, *, ours: bool = True) -> Record:
        """Add a line; a process that is killed now does not lose it.

        What earlier runs wrote for this input and this one did not, such as the mask of a label that is no longer asked
        for, is kept in mind; by the end of the run it may be another input's.

        Args:
            record: What became of an input.
            ours: Whether it belongs to this run, and not to one that was killed.

        Returns:
            The record as it was written: failed if one of its outputs is that of another input of this run, which then
            has failed as well, because only one of them can be there. An input of an earlier run has failed alone.
        """
        before = self._last(record.input)
        owners = {self._owner.get(hash(name), record.input): name for name in record.outputs}
        written = set(record.outputs)
        for other in sorted(owners.keys() - {record.input}):
            name = owners[other]
            if other in self._current:
                theirs = self._last(other) or Record(other, FAILED)
                mine, advice = record.input, "rename one of the two, or leave out the writer"
                self._write(failed(theirs, f"{other}: its output {name} is also one of {mine}; {advice}", written))
                record = failed(record, f"{mine}: its output {name} is also one of {other}; {advice}", {name})
            else:
                self._write_over(other, name, record.input, written)
        if before is not None:
            record = self._after(before, record)
        self._write(record)
        if ours:
            self._current.add(record.input)
        return record

    def _write_over(self, other: str, name: str, source: str, lost: Collection[str] = ()) -> None:
        """Say of an input of an earlier run that one of this run has its outputs, those lost to it already."""
        why = f"{other}: its output {name} was written over by {source}; a run over it makes it anew"
        self._write(failed(self._last(other) or Record(other, FAILED), why, lost))

    def _last(self, source: str) -> Record | None:
        """The last record of an input that counts."""
        if source not in self._places:
            return None
        with open(self.path, "rb") as file:
            return _record_at(file, self._places[source])

    def _after(self, before: Record, record: Record) -> Record:
        """The record with the files of an earlier one that it did not write anew."""
        kinds = {kind_of(name, record.stem) for name in record.outputs}
        known, left, stale = record.files, dict(record.left), {}
        for name, kind in before.files.items():
            if name not in known and self._is_of(name, record.input):
                (stale if name in before.stale or kind in kinds else left)[name] = kind
        return replace(record, left=left, stale=stale)

    def _is_of(self, name: str, source: str) -> bool:
        """Whether no other input has an output of that name."""
        return self._owner.get(hash(name), source) == source

    def _without_stale(self, line: bytes) -> bytes:
        """A line that says nothing of stale files, which are removed where they are no other input's by now."""
        record = None if NOTHING_STALE in line else _parse(line)
        if record is None or record.status == FAILED:
            return line
        for name in record.stale:
            if self._is_of(name, record.input) and _is_below(name):
                (self.out / name).unlink(missing_ok=True)
        return to_line(replace(record, stale={}))

    def _write(self, record: Record) -> None:
        self.out.mkdir(parents=True, exist_ok=True)
        with open(self.path, "ab", buffering=0) as file:
            # A killed run may have left half a line; starting on a new one keeps ours readable.
            if not self._whole and file.tell() and not _ends_with_newline(self.path):
                file.write(b"\n")
            self._whole = True
            place = file.tell()
            file.write(to_line(record))
        self._add(record, place)
        self._uncommitted += 1
        if self._uncommitted >= COMMIT_LINES or time.monotonic() - self._committed_at > COMMIT_SECONDS:
            self.commit()

    def commit(self) -> None:
        """Make sure that all lines are on the disk."""
        if self._uncommitted:
            with open(self.path, "rb") as file:
                os.fsync(file.fileno())
        self._uncommitted, self._committed_at = 0, time.monotonic()

    def _add(self, record: Record, place: int) -> None:
        """Keep its place; an input whose outputs it wrote over is no longer finished."""
        self._places[record.input] = place
        self._lost.discard(record.input)
        for name in (*record.left, *record.stale):
            if self._is_of(name, record.input):
                self._owner.pop(hash(name), None)
        for name in record.outputs:
            key = hash(name)
            before = self._owner.get(key, record.input)
            if before != record.input:
                self._lost.add(before)
            self._owner[key] = record.input

    def rewrite(self, sources: Iterable[str], skipped: Iterable[str] = ()) -> "Records":
        """Write the file anew: the given inputs in their order, then inputs of earlier runs.

        Before, stale files of the given inputs are removed.

        Args:
            sources: The inputs.
            skipped: Those of them that an earlier run had finished.

        Returns:
            The records of the given inputs that were skipped or appended; other lines stay, but are not of this run.
        """
        before, order = set(skipped), dict.fromkeys(sources)
        places, flags = array("q"), bytearray()
        kept: dict[str, int] = {}
        # Of one that another wrote over and that no later line speaks of, nothing true could be said.
        untrue = {source for source in self._lost if (last := self._last(source)) and last.status != FAILED}
        with nullcontext() if not self._places else open(self.path, "rb") as lines, atomic_write(self.path) as file:
            for source in (*order, *(source for source in self._places if source not in order)):
                if source in self._places and source not in untrue and lines is not None:
                    kept[source] = file.tell()
                    lines.seek(self._places[source])
                    line = lines.readline().rstrip(b"\n") + b"\n"  # a killed run may have left it without
                    file.write(self._without_stale(line) if source in order else line)
                    if source in before or (source in order and source in self._current):
                        places.append(kept[source])
                        flags.append(source in before)
        self._places, self._uncommitted = kept, 0
        return Records(self.path, places, flags)


class Records(Sequence[Record]):
    """Records of a manifest in the order of their inputs, read when they are asked for.

    Args:
        path: The manifest.
        places: Where each line begins.
        skipped: Which of them are to be called ``skipped``: finished by an earlier run.
    """

    def __init__(self, path: Path, places: Sequence[int], skipped: Sequence[int]) -> None:
        self._path, self._places, self._skipped = path, places, skipped

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> "Records": ...
    def __getitem__(self, index: int | slice) -> "Record | Records":
        if isinstance(index, slice):
            return Records(self._path, self._places[index], self._skipped[index])
        with open(self._path, "rb") as file:
            return self._read(file, range(len(self))[index])

    def __iter__(self) -> Iterator[Record]:
        if len(self):
            with open(self._path, "rb") as file:
                yield from (self._read(file, index) for index in range(len(self)))

    def _read(self, file: IO[bytes], index: int) -> Record:
        record = _record_at(file, self._places[index])
        assert record is not None, "places are those of whole lines"
        return replace(record, status=SKIPPED) if self._skipped[index] else record


def digest(settings: dict[str, Any]) -> str:
    """A short digest of a run's settings."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:16]


def to_line(record: Record) -> bytes:
    """The record as one line of JSON."""
    return to_json(asdict(record))


def read_records(path: Path, start: int = 0) -> Iterator[tuple[int, Record]]:
    """The records of a manifest and where their lines begin, from the line that begins at ``start``.

    What is no record is passed over: half a line of a killed run means that its input is unfinished.
    """
    if not path.is_file():
        return
    with open(path, "rb") as file:
        file.seek(start)
        place = start
        while line := file.readline():
            record = _parse(line)
            if record is not None:
                yield place, record
            place += len(line)


def _record_at(file: IO[bytes], place: int) -> Record | None:
    file.seek(place)
    return _parse(file.readline())


def _parse(line: bytes) -> Record | None:
    try:
        record = Record(**json.loads(line))
    except (ValueError, TypeError):
        return None
    lists, mappings = (record.outputs, record.notes), (record.labels, record.left, record.stale)
    whole = all(isinstance(value, list) for value in lists) and all(isinstance(value, dict) for value in mappings)
    texts = (record.input, record.stem, *record.outputs, *record.left.values(), *record.stale.values()) if whole else ()
    return record if whole and all(isinstance(text, str) for text in texts) else None


def failed(record: Record, error: str, lost: Collection[str] = ()) -> Record:
    """What becomes of a record of an input that has failed after all; its files are left, but those lost to others."""
    left = {name: kind for name, kind in record.files.items() if name not in lost}
    return replace(record, status=FAILED, outputs=[], labels={}, left=left, stale={}, error=error)


def kind_of(name: str, stem: str) -> str:
    """What sort of output a file is: ``mask.png`` for ``STEM.mask.000-dog.png``, of a frame as well."""
    path = PurePosixPath(name)
    if FRAGMENTS in path.parts:
        return f"{FRAGMENTS}/{path.parent.name}"
    tail = name.removeprefix(stem)
    parts = (path.name if tail.startswith("/") else tail).split(".")[1:]
    return ".".join(dict.fromkeys((parts[0], parts[-1]))) if parts else tail


def _is_below(name: str) -> bool:
    """Whether a name leads into the output folder, as all do that this tool wrote."""
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts


def _ends_with_newline(path: Path) -> bool:
    with open(path, "rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
