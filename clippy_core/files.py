"""Writing files so that a reader never sees half of one.

Everything is written to a temporary name in the target's own folder, flushed to disk and renamed. A crash, a full
disk or a signal leaves the old file as it was and at most one temporary file, which the next run may delete.
"""

import errno
import json
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from clippy_core.errors import DataError

TEMPORARY_PREFIX = ".clippy-tmp-"


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """A binary file that takes the name ``path`` only if the block ends without an exception.

    Missing parent folders are made. The file keeps the permissions the process's umask gives to new files.

    Raises:
        OSError: The folder or the file cannot be written, which is called by the name it was to get; an existing file
            of that name is untouched.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f"{TEMPORARY_PREFIX}{secrets.token_hex(6)}"
    try:
        with errors_named(temporary, path):
            with open(temporary, "xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def errors_named(temporary: Path, path: Path) -> Iterator[None]:
    """Errors about a temporary file or folder, or about room for it, name what it was to become.

    Args:
        temporary: What is written.
        path: The name that it is to get.
    """
    try:
        yield
    except OSError as error:
        name = Path(os.fsdecode(error.filename)) if isinstance(error.filename, (str, bytes)) else None
        if name is not None and name.is_relative_to(temporary):
            error.filename, error.filename2 = str(path / name.relative_to(temporary)), None
        elif name is None and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            error.filename = str(path)
        raise


def refuse_foreign(path: str | os.PathLike[str], *kinds: Sequence[bytes]) -> None:
    """Refuse to write over a file of somebody else's: a picture's ``NAME.json`` may be hours of work by hand.

    Args:
        path: The file, which need not be there.
        kinds: For each kind of file that this package writes under such a name, what stands in its first 8 KB.

    Raises:
        DataError: It is there, is not empty and has not all marks of any kind.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(8192)
    except OSError:  # nothing is there, or what writes there will say why it cannot
        return
    if head and not any(all(mark in head for mark in marks) for marks in kinds):
        raise DataError(f"{path}: is there already, and not by clippy; move it away, or give another --out")


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write ``data`` to ``path`` atomically."""
    with atomic_write(path) as file:
        file.write(data)


def write_json(path: str | os.PathLike[str], document: Any) -> None:
    """Write ``document`` to ``path`` atomically as indented UTF-8 JSON."""
    write_bytes(path, to_json(document, indent=2))


def to_json(document: Any, *, indent: int | None = None) -> bytes:
    """``document`` as UTF-8 JSON and a line break; without ``indent`` that is the only one.

    Bytes of a file name that are not UTF-8 become JSON's own escapes, from which Python and others get the name back.
    """
    text = json.dumps(document, indent=indent, ensure_ascii=False)
    return (text + "\n").encode("utf-8", "backslashreplace")


def remove_leftovers(folder: str | os.PathLike[str]) -> int:
    """Delete temporary files that a killed run left in ``folder``, not below it; returns how many."""
    leftovers = list(Path(folder).glob(f"{TEMPORARY_PREFIX}*"))
    for leftover in leftovers:
        leftover.unlink(missing_ok=True)
    return len(leftovers)
