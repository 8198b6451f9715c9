"""Parts of a manifest: what the processes of a run have finished, before the one that leads has written it down.

Each piece of work has a part of its own, ``OUT/.clippy/run/NAME.jsonl``, so no two processes write to one file. A
process that takes over a piece finds there what is done already, and the next run finds what a killed one left.

Where processes share nothing but the output folder, a file there, :data:`STOP`, tells them to begin nothing more.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import IO

from clippy_core.segmentation.batch.manifest import BEGUN, Manifest, Record, read_records, to_line

FOLDER = Path(".clippy", "run")
STOP = FOLDER / "stop"


def part_path(out: Path, name: str) -> Path:
    """Where the part of a piece of work lies."""
    return out / FOLDER / f"{name}.jsonl"


class Part:
    """The part of one piece of work, written by one process at a time.

    Args:
        out: The output folder.
        name: The piece's name.

    Attributes:
        done: Inputs that an earlier attempt has finished.
    """

    def __init__(self, out: Path, name: str) -> None:
        path = part_path(out, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        self.done = {record.input for _, record in read_records(path) if record.status != BEGUN}
        self._file: IO[bytes] = open(path, "ab", buffering=0)  # noqa: SIM115
        if self._file.tell():
            self._file.write(b"\n")  # whatever half a line an attempt that was killed has left

    def append(self, record: Record) -> None:
        """Add a line; a process that is killed now does not lose it."""
        self._file.write(to_line(record))

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class PartReader:
    """Follows the parts of a run while they grow.

    Args:
        out: The output folder.
    """

    def __init__(self, out: Path) -> None:
        self._out = out
        self._seen: dict[str, int] = {}

    def names(self, start: str) -> list[str]:
        """The parts that are there whose names begin so."""
        return sorted(path.stem for path in (self._out / FOLDER).glob(f"{start}*.jsonl"))

    def news(self, name: str) -> Iterator[Record]:
        """What was added to a part since it was last asked for; half a line waits for its other half."""
        path = part_path(self._out, name)
        start = self._seen.get(name, 0)
        if not path.exists() or path.stat().st_size == start:
            return
        for place, record in read_records(path, start):
            self._seen[name] = place + len(to_line(record))
            yield record

    def forget(self, name: str) -> None:
        """Remove a part that was written down elsewhere."""
        self._seen.pop(name, None)
        part_path(self._out, name).unlink(missing_ok=True)


def stop(out: Path) -> None:
    """Tell all processes of the run to begin nothing more."""
    (out / FOLDER).mkdir(parents=True, exist_ok=True)
    (out / STOP).touch()


def is_stopped(out: Path) -> bool:
    """Whether :func:`stop` was called in any process of the run."""
    return (out / STOP).exists()


def take_over(manifest: Manifest) -> None:
    """Write into the manifest what a killed run left in parts, and remove them, and its word to stop."""
    folder = manifest.out / FOLDER
    parts = sorted(folder.glob("*.jsonl"))
    for path in parts:
        for _, record in read_records(path):
            if record.status == BEGUN:
                manifest.withdraw(record.input, record.outputs)
            else:
                manifest.append(record, ours=False)
    manifest.commit()
    for path in parts:
        path.unlink()
    (manifest.out / STOP).unlink(missing_ok=True)
    tidy(manifest.out)


def tidy(out: Path) -> None:
    """Remove the folders of the parts where they are empty."""
    for folder in (out / FOLDER, (out / FOLDER).parent):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
