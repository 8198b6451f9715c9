"""One run at a time in an output folder: two would delete each other's temporary files and write one manifest."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from clippy_core.errors import DataError

PATIENCE = 5.0
"""Seconds to wait for another run: the processes of one that was killed take a moment to notice."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder for the block; the system lets go of it when the process ends, however that happens.

    Where the system or its file system knows no such locks, nothing is held.

    Raises:
        DataError: Another process holds it.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        until = time.monotonic() + PATIENCE
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > until:
                    raise DataError(
                        f"{folder}: another run is writing to this folder; wait for it, or give another with --out"
                    ) from error
                time.sleep(0.1)
            except OSError:  # a network file system without locks
                break
        yield
    finally:
        os.close(descriptor)
