"""Who may write to an output folder: one run, or any number of pictures by themselves.

Two runs would delete each other's temporary files and write one manifest; a picture by itself would write over what a
run is about to call finished.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from clippy_core.errors import DataError

PATIENCE = 5.0
"""Seconds to wait for another run: the processes of one that was killed take a moment to notice."""


@contextmanager
def locked(folder: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold the folder for the block; the system lets go of it when the process ends, however that happens.

    Where the system or its file system knows no such locks, nothing is held.

    Args:
        folder: The output folder.
        shared: Together with others who share it.

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
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        until = time.monotonic() + PATIENCE
        while True:
            try:
                fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
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
