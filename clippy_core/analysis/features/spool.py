"""Arrays of one picture after another on disk, for what has to be looked at twice: memory does not grow with them."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path

import numpy as np

from clippy_core.files import TEMPORARY_PREFIX


class Spool(AbstractContextManager["Spool"]):
    """A temporary file of records; it goes away with the spool, also when the process is killed.

    Args:
        folder: Where it lies; made if missing, and then removed again if nothing else was written to it.

    Raises:
        OSError: The folder cannot be written, or the disk is full.
    """

    def __init__(self, folder: Path) -> None:
        self._made = None if folder.exists() else folder
        folder.mkdir(parents=True, exist_ok=True)
        self._file = tempfile.TemporaryFile(dir=folder, prefix=TEMPORARY_PREFIX)  # noqa: SIM115 - closed on exit
        self._names: list[tuple[str, ...]] = []

    def __exit__(self, *reason: object) -> None:
        self._file.close()
        if self._made is not None:
            with suppress(OSError):  # it is not empty
                self._made.rmdir()

    def add(self, record: Mapping[str, np.ndarray]) -> None:
        """Append a record."""
        self._file.seek(0, 2)
        self._names.append(tuple(record))
        for array in record.values():
            np.save(self._file, array, allow_pickle=False)

    def __len__(self) -> int:
        return len(self._names)

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        """The records in order, each read when it is asked for; nothing may be added meanwhile."""
        self._file.seek(0)
        for names in self._names:
            yield {name: np.load(self._file, allow_pickle=False) for name in names}
