"""Looking for pictures in folders that may be anything: links in circles, folders that close or go away meanwhile."""

import os
from collections.abc import Iterator
from pathlib import Path

from clippy_core.images import SUFFIXES


def pictures_below(folder: Path, out: Path) -> Iterator[Path]:
    """Files below ``folder`` with a picture's suffix, sorted folder by folder, and folders that cannot be opened.

    Hidden names, the output folder and folders already seen through another link are passed over.
    """
    seen: set[tuple[int, int]] = set()
    closed: list[str] = []
    for parent, folders, files in os.walk(
        folder, followlinks=True, onerror=lambda error: closed.append(error.filename)
    ):
        try:
            status = os.stat(parent)
        except OSError:  # taken away while we looked
            closed.append(parent)
            folders.clear()
            continue
        if (status.st_dev, status.st_ino) in seen or same(Path(parent), out):
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES:
                yield Path(parent, name)
    # A folder that cannot be opened may hide pictures; reading it as one makes it a failed line instead of silence.
    yield from map(Path, closed)


def is_folder(path: Path) -> bool:
    """Whether it is a folder that can be looked at."""
    try:
        return path.is_dir()
    except (OSError, ValueError):  # too long a name, a parent that may not be entered: reading it will say which
        return False


def absent(path: Path) -> bool:
    """Whether nothing of that name is there; what cannot be told counts as present."""
    try:
        return not path.exists()
    except (OSError, ValueError):
        return False


def same(a: Path, b: Path) -> bool:
    """Whether both are one existing folder."""
    return b.exists() and a.resolve() == b.resolve()


def inside(file: Path, folder: Path) -> bool:
    """Whether the file lies below the folder, through links too."""
    # Unlike Path.resolve, realpath also has an answer for a link to itself.
    return Path(os.path.realpath(folder)) in Path(os.path.realpath(file)).parents
