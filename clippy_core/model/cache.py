"""Where fetched models lie on this machine, and what keeps that place in order. Imports no torch.

A download to ``NAME`` uses these names beside it:

================== ========================================================================
``NAME.part``      what has arrived so far
``NAME.part.json`` what the server said about it, so that the rest can be asked for later
``NAME.lock``      held while one process downloads
``NAME.sha256``    the hash of the first download, where the publisher gives none
================== ========================================================================
"""

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from clippy_core.errors import DataError, UsageError

VARIABLE = "CLIPPY_CACHE"
STALE_AFTER = 14 * 24 * 3600.0
"""Seconds without a new byte after which a partial download is taken to be abandoned."""
WAIT = 0.2
"""Seconds between two looks at what another process has downloaded."""


def cache_folder() -> Path:
    """The folder for everything that can be fetched again; it is not made here.

    ``CLIPPY_CACHE`` if it is set, else ``clippy`` in ``XDG_CACHE_HOME``, else in the system's usual place:
    ``~/.cache``, ``~/Library/Caches`` on macOS, ``%LOCALAPPDATA%`` on Windows.

    Raises:
        UsageError: There is no home folder, and nothing else says where.
    """
    try:
        if chosen := os.environ.get(VARIABLE):
            return Path(chosen).expanduser().absolute()
        return _usual_place() / "clippy"
    except RuntimeError as error:
        raise UsageError(f"the home folder of this user is not known; set {VARIABLE} to a folder") from error


def model_folder(name: str) -> Path:
    """The folder of the model ``name``: directly in the cache's ``models``, whatever characters the name has.

    Raises:
        UsageError: An empty name, or see :func:`cache_folder`.
    """
    if not name:
        raise UsageError("a model's name is empty")
    folder = quote(name, safe="", errors="surrogateescape")
    return cache_folder() / "models" / (f"%2E{folder[1:]}" if folder.startswith(".") else folder)


def part_of(target: Path) -> Path:
    """Where a download to ``target`` grows."""
    return target.with_name(f"{target.name}.part")


def note_of(target: Path) -> Path:
    """Where it is kept what the server said about the partial download."""
    return target.with_name(f"{target.name}.part.json")


def record_of(target: Path) -> Path:
    """Where the hash of a first download is recorded."""
    return target.with_name(f"{target.name}.sha256")


def require_space(folder: Path, needed: int, purpose: str) -> None:
    """Make sure that ``needed`` more bytes fit into ``folder``, or where it will be made.

    Raises:
        DataError: They do not; the message begins with ``purpose``.
    """
    existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise DataError(
            f"{purpose}: {in_megabytes(needed)} needed, but only {in_megabytes(free)} free in {folder}; "
            f"make room, or set {VARIABLE} to a folder on another disk"
        )


def in_megabytes(count: int) -> str:
    """A number of bytes for people, in millions."""
    return f"{count / 1e6:,.1f} MB"


@contextmanager
def locked(target: Path, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold the lock of ``target`` against every other process on machines that share its file system.

    The operating system lets go of the lock of a process that dies.

    Args:
        target: The file that is about to be made; its folder must exist.
        waiting: Called about every 0.2 s while somebody else holds the lock; what it raises ends the waiting.

    Raises:
        OSError: The lock file cannot be made.
    """
    from filelock import FileLock, Timeout

    path = target.with_name(f"{target.name}.lock")
    lock = FileLock(path)
    while not lock.is_locked:
        try:
            lock.acquire(timeout=WAIT)
        except Timeout:
            waiting()
    try:
        yield
    finally:
        # Deleted while it is still held: whoever waits for this file sees that it lost its name and begins anew.
        # Windows does not delete an open file; there the lock does it on release.
        with suppress(OSError):
            path.unlink()
        lock.release()


class _BusyError(Exception):
    """Another process holds the lock."""


def _busy() -> None:
    raise _BusyError


def remove_stale_parts(folder: Path, older_than: float = STALE_AFTER) -> int:
    """Delete partial downloads in and below ``folder`` that nobody continues.

    Args:
        folder: Where to look; it need not exist.
        older_than: Age of the last byte, in seconds, from which on a partial download is deleted.

    Returns:
        How many were deleted. Those that another process holds, or that may not be deleted, stay.
    """
    found = [path.with_name(path.name.removesuffix(".json")) for path in folder.rglob("*.part.json")]
    removed = 0
    for part in sorted({*found, *folder.rglob("?*.part")}):
        target = part.with_suffix("")
        # Tidying must not keep anybody from work: what cannot be deleted now stays for another day.
        with suppress(OSError, _BusyError):
            if _age(part if part.exists() else note_of(target)) > older_than:
                with locked(target, _busy):
                    part.unlink(missing_ok=True)
                    note_of(target).unlink(missing_ok=True)
                    removed += 1
    return removed


def _age(path: Path) -> float:
    return time.time() - path.stat().st_mtime


def _usual_place() -> Path:
    shared = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if shared.is_absolute():
        return shared
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path.home() / ".cache"
