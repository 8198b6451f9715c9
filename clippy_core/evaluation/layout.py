"""Saying what is wrong with a folder that is not a data set."""

from collections.abc import Iterable
from pathlib import Path

from clippy_core.errors import DataError

SHOWN = 8


def wrong_folder(data: Path, name: str, expected: str, *, missing: str, looked_at: Path | None = None) -> DataError:
    """The error for a folder that is not laid out like a data set, to be raised by the caller.

    Args:
        data: The folder the user gave.
        name: What people call the data set.
        expected: The files that are expected, in words.
        missing: What is not there.
        looked_at: The folder whose content is shown, if it is not ``data``.
    """
    if not data.is_dir():
        return DataError(f"{data}: no such folder; one laid out as {name} is expected")
    folder = looked_at or data
    where = "" if folder == data else f" in {folder}"
    return DataError(
        f"{data}: not laid out as {name}; expected: {expected}; missing: {missing}; found{where}: {content(folder)}"
    )


def content(folder: Path) -> str:
    """The first names in a folder, and how many more there are."""
    names = [path.name + ("/" if path.is_dir() else "") for path in entries(folder)]
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more if names else "nothing, the folder is empty"


def entries(folder: Path) -> list[Path]:
    """What is in a folder, sorted by name.

    Raises:
        DataError: It cannot be listed.
    """
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed ({error.strerror})") from error


def folders_in(data: Path, below: Iterable[str]) -> list[Path]:
    """Those of the folders below ``data`` that are there; ``""`` stands for ``data`` itself."""
    return [folder for folder in (data / name for name in below) if folder.is_dir()]
