"""Where in a tar file each sample's picture and caption lie.

Headers alone are read, by Python's ``tarfile``. That library ends at a damaged header in the middle of a file as if
the file ended there, so the end is looked at: there have to be zeros, and nothing but zeros after them.

Members belong to one sample if they share everything up to the first dot of the base name, which is webdataset's rule.
Nothing is ever written under a member's name.
"""

import hashlib
import io
import json
import os
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clippy_core.errors import ClippyError, DataError
from clippy_core.files import write_bytes
from clippy_core.model.cache import cache_folder, locked
from clippy_core.training.data.captions import SUFFIXES as CAPTIONS
from clippy_core.training.data.captions import shown

IMAGES = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "ppm", "avif", "jp2")
"""Extensions of pictures, the preferred one first."""
VERSION = 1
BLOCK = 512
LONGEST_TAIL = 1 << 20
"""Bytes of zeros after the last member beyond which something is wrong."""


@dataclass(frozen=True)
class ShardIndex:
    """The complete samples of a shard, in the order of the file.

    Attributes:
        places_N4: Byte offset and size of the picture, then of the caption; ``int64``.
        is_json_N: Whether the caption is JSON.
        keys: What each sample is called in the file, as UTF-8 one after the other.
        key_ends_N: Where each key ends.
        partial: Samples that lack a picture or a caption.
        fault: What is wrong with the file, or "".
        stamp: Size in bytes and time of change in nanoseconds of the file when it was read.
    """

    places_N4: np.ndarray
    is_json_N: np.ndarray
    keys: bytes
    key_ends_N: np.ndarray
    partial: int
    fault: str
    stamp: tuple[int, int]

    def __len__(self) -> int:
        return len(self.places_N4)

    def key(self, number: int) -> str:
        """What sample ``number`` is called, on one line."""
        start = int(self.key_ends_N[number - 1]) if number else 0
        return shown(self.keys[start : int(self.key_ends_N[number])].decode("utf-8", "replace"))


def stamp_of(status: os.stat_result) -> tuple[int, int]:
    """Size and time of change: what tells one version of a file from another."""
    return status.st_size, status.st_mtime_ns


def open_binary(path: Path) -> int:
    """A descriptor of a file to read from.

    Raises:
        OSError: It cannot be opened.
    """
    return os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0))


def load_index(path: Path) -> ShardIndex:
    """The index of a local shard, from the cache if the file has not changed since, else by reading its headers.

    Several processes that need the same shard's index do not make it twice.

    Raises:
        DataError: The file does not exist or cannot be read. A damaged one is no error: see ``fault``.
    """
    stamp = _stamp(path)
    try:
        cached = _cached_place(path)
        found = _load(cached, stamp)
        if found is not None:
            return found
        cached.parent.mkdir(parents=True, exist_ok=True)
        with locked(cached):
            found = _load(cached, stamp)
            if found is None:
                found = scan(path)
                write_bytes(cached, _packed(found))
            return found
    except (OSError, NotImplementedError, ClippyError):
        # Without a place to keep it, or locks in that place, it is made each time; what is wrong with the shard comes
        # up again.
        return scan(path)


def scan(path: Path) -> ShardIndex:
    """Read the headers of a shard.

    Raises:
        DataError: The file does not exist or cannot be read.
    """
    stamp = _stamp(path)
    samples: list[tuple[str, dict[str, tuple[int, int]]]] = []
    latest: dict[str, int] = {}
    fault = ""
    try:
        with open(path, "rb") as file:
            try:
                for key, extension, offset, size in _members(file, stamp[0]):
                    number = latest.get(key)
                    # A name that comes again is another sample: shards are joined without a look at names.
                    if number is None or extension in samples[number][1]:
                        latest[key] = number = len(samples)
                        samples.append((key, {}))
                    samples[number][1][extension] = offset, size
            except (_DamageError, tarfile.TarError, ValueError, OverflowError) as error:
                fault = shown(str(error))
    except OSError as error:
        raise DataError(f"{shown(str(path))}: cannot be read ({error.strerror or error})") from error
    return _index_of(samples, fault, stamp)


class _DamageError(Exception):
    """Something in the file that is not as it should be."""


def _members(file: Any, size: int) -> Iterator[tuple[str, str, int, int]]:
    """Key, extension, offset and size of every picture and caption.

    Raises:
        _DamageError: At the end of what can be read, if that is not the end of the file.
    """
    if size == 0:
        raise _DamageError("the file is empty")
    try:
        archive = tarfile.TarFile(fileobj=file, mode="r", errorlevel=0)
    except (tarfile.TarError, ValueError) as error:
        raise _DamageError(f"not a tar file (it begins with {_beginning(file)!r})") from error
    try:
        while (member := archive.next()) is not None:
            archive.members = []  # type: ignore[attr-defined]  # it would keep them all
            if member.offset_data + member.size > size:
                raise _DamageError(f"cut short in {member.name}, which begins at byte {member.offset:,}")
            named = _key_and_extension(member.name)
            if named and member.isreg() and not member.issparse():
                yield *named, member.offset_data, member.size
    except tarfile.ReadError as error:
        place = min(archive.offset, size)
        raise _DamageError(f"cut short or damaged at byte {place:,} of {size:,} ({error})") from error
    _check_end(file, archive.offset, size)


def _beginning(file: Any) -> str:
    file.seek(0)
    return file.read(20).decode("utf-8", "replace")


def _key_and_extension(name: str) -> tuple[str, str] | None:
    """What comes before the first dot of the base name, and the rest; None for what is no part of a sample."""
    folder, slash, base = name.rpartition("/")
    stem, _, extension = base.partition(".")
    extension = extension.lower()
    meta = any(part.startswith("__") and part.endswith("__") and len(part) > 4 for part in name.split("/"))
    if not stem or meta or (extension not in IMAGES and extension not in CAPTIONS):
        return None
    return f"{folder}{slash}{stem}", extension


def _check_end(file: Any, offset: int, size: int) -> None:
    if offset >= size:
        raise _DamageError("no end-of-archive mark: cut short at the end of a member, or never closed")
    file.seek(offset)
    tail = file.read(LONGEST_TAIL)
    if tail.count(0) == len(tail) and offset + len(tail) == size:
        return
    if tail[:BLOCK].count(0) == min(BLOCK, len(tail)):
        raise _DamageError(f"ends at byte {offset:,}, but {size - offset:,} more bytes follow")
    raise _DamageError(f"damaged header at byte {offset:,} of {size:,}; what follows is lost")


def _index_of(samples: list[tuple[str, dict[str, tuple[int, int]]]], fault: str, stamp: tuple[int, int]) -> ShardIndex:
    places, is_json, keys = [], [], []
    for key, members in samples:
        image = next((members[extension] for extension in IMAGES if extension in members), None)
        caption = next((extension for extension in CAPTIONS if extension in members), None)
        if image is not None and caption is not None:
            places.append((*image, *members[caption]))
            is_json.append(caption == "json")
            keys.append(key.encode("utf-8", "replace"))
    return ShardIndex(
        np.array(places, np.int64).reshape(-1, 4),
        np.array(is_json, bool),
        b"".join(keys),
        np.cumsum([len(key) for key in keys], dtype=np.int64),
        len(samples) - len(places),
        fault or ("" if samples else "there is no picture and no caption in it"),
        stamp,
    )


def _stamp(path: Path) -> tuple[int, int]:
    try:
        if path.exists() and not path.is_file():
            raise DataError(f"{shown(str(path))}: not a regular file")
        return stamp_of(path.stat())
    except OSError as error:
        raise DataError(f"{shown(str(path))}: cannot be read ({error.strerror or error})") from error


def _cached_place(path: Path) -> Path:
    name = hashlib.sha256(os.fsencode(path.absolute())).hexdigest()[:32]
    return cache_folder() / "shards" / "index" / f"{name}.npz"


def _packed(index: ShardIndex) -> bytes:
    note = {"version": VERSION, "partial": index.partial, "fault": index.fault, "stamp": index.stamp}
    buffer = io.BytesIO()
    np.savez(
        buffer,
        note=np.frombuffer(json.dumps(note).encode(), np.uint8),
        places=index.places_N4,
        is_json=index.is_json_N,
        keys=np.frombuffer(index.keys, np.uint8),
        key_ends=index.key_ends_N,
    )
    return buffer.getvalue()


def _load(cached: Path, stamp: tuple[int, int]) -> ShardIndex | None:
    """What was kept, unless the shard has changed or what was kept is damaged: a zip file knows its checksums."""
    try:
        with np.load(io.BytesIO(cached.read_bytes()), allow_pickle=False) as kept:
            note = json.loads(kept["note"].tobytes())
            if note["version"] != VERSION or tuple(note["stamp"]) != stamp:
                return None
            arrays = kept["places"], kept["is_json"], kept["keys"].tobytes(), kept["key_ends"]
            return ShardIndex(*arrays, note["partial"], note["fault"], stamp)
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
