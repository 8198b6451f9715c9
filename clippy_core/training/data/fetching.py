"""Shards from elsewhere: fetched whole into a bounded folder, then read like local ones.

One process fetches a shard while others that need it wait. Where room runs out, the shard goes that was not opened for
the longest time; a process that reads it can read on. How many samples it had stays noted.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from clippy_core.errors import DataError
from clippy_core.files import atomic_write, write_json
from clippy_core.model.cache import cache_folder, locked
from clippy_core.model.download import BY_HAND, download
from clippy_core.training.data.captions import shown
from clippy_core.training.data.shard_index import ShardIndex, load_index, open_binary, stamp_of
from clippy_core.training.data.shard_lists import Shard

ATTEMPTS = 3
PAUSE = 0.5
"""Seconds before the second attempt; each pause is twice the one before."""


@dataclass(frozen=True)
class Store:
    """Fetched shards on this machine, shared by all its processes.

    Attributes:
        room_gb: Room for them, in 10^9 bytes. One shard stays, however large.
        attempts: How often a command or a connection that gets nowhere is tried.
    """

    room_gb: float
    attempts: int = ATTEMPTS

    def count(self, url: str) -> tuple[int, int, str]:
        """Complete samples, partial ones, and what is wrong with the shard or ""; fetched once to find out.

        Raises:
            DataError: It cannot be fetched.
        """
        note = _note_of(_place(url))
        with suppress(OSError, ValueError, KeyError, TypeError):
            kept = json.loads(note.read_bytes())
            return int(kept["samples"]), int(kept["partial"]), str(kept["fault"])
        descriptor, index = self.open(url)
        os.close(descriptor)
        found = len(index), index.partial, index.fault
        if len(index):
            with suppress(OSError):
                write_json(note, {"samples": found[0], "partial": found[1], "fault": found[2]})
        return found

    def open(self, url: str) -> tuple[int, ShardIndex]:
        """The file's descriptor, for the caller to close, and its index; fetched if it is not here.

        Raises:
            DataError: It cannot be fetched; one line.
        """
        name, place = Shard(url).name, _place(url)
        for _ in range(self.attempts):
            try:
                self._bring(url, place, name)
                descriptor = open_binary(place)
            except FileNotFoundError:
                continue  # another process made room just now
            except DataError as error:
                raise DataError(f"{name}: {error}") from error
            except (OSError, NotImplementedError) as error:
                reason = getattr(error, "strerror", None) or error
                raise DataError(f"{name}: cannot be kept in {place.parent} ({reason})") from error
            with suppress(DataError):
                index = load_index(place)
                if stamp_of(os.fstat(descriptor)) == index.stamp:
                    if not len(index):
                        place.unlink(missing_ok=True)  # a web page; next time it may be the shard
                    return descriptor, index
            os.close(descriptor)
        raise DataError(
            f"{name}: disappears from {place.parent} while it is being read; is data.shard_cache_gb enough?"
        )

    def _bring(self, url: str, place: Path, name: str) -> None:
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            if url.startswith("pipe:"):
                self._run(url, place)
            else:
                with _plain_words(url, name):
                    download(url, place, sha256=None, attempts=self.attempts)
                # The recorded hash would forbid a shard to be published anew.
                place.with_name(f"{place.name}.sha256").unlink(missing_ok=True)
            self._make_room(place)
        # Time of use, so that the oldest goes first; the time of change belongs to the index.
        status = place.stat()
        os.utime(place, ns=(time.time_ns(), status.st_mtime_ns))

    def _run(self, url: str, place: Path) -> None:
        """Keep what a command writes; half of it never gets the name."""
        from webdataset.gopen import gopen

        with locked(place):
            for attempt in range(self.attempts):
                if place.exists():
                    return
                time.sleep(PAUSE * 2 ** (attempt - 1) if attempt else 0)
                try:
                    # Closing the pipe waits for the command, whose failure is an OSError of the library.
                    with atomic_write(place) as file, gopen(url, "rb") as stream:
                        shutil.copyfileobj(stream, file)
                        if not file.tell():
                            raise OSError("the command wrote nothing")
                    return
                except OSError as error:
                    if error.errno is not None:
                        raise
                    reason = shown(str(error).partition("{")[0].strip())
        raise DataError(f"tried {self.attempts} times ({reason})")

    def _make_room(self, newest: Path) -> None:
        """Delete what was opened longest ago until the rest fits."""
        kept = []
        for path in newest.parent.glob("*.tar"):
            with suppress(OSError):
                status = path.stat()
                kept.append((status.st_atime_ns, status.st_size, path))
        taken = sum(size for _, size, _ in kept)
        for _, size, path in sorted(kept):
            if taken <= self.room_gb * 1e9:
                return
            if path != newest:
                with suppress(OSError):
                    path.unlink()
                taken -= size


def _place(url: str) -> Path:
    return cache_folder() / "shards" / "fetched" / f"{hashlib.sha256(url.encode()).hexdigest()[:32]}.tar"


def _note_of(place: Path) -> Path:
    return place.with_suffix(".json")


@contextmanager
def _plain_words(url: str, name: str) -> Iterator[None]:
    """Take from the downloader's message the address, which comes first anyway, and its advice about checkpoints."""
    try:
        yield
    except DataError as error:
        text = str(error).replace(f"; {BY_HAND}", "").replace(BY_HAND, "")
        for prefix in (url, name):
            text = text.removeprefix(prefix).lstrip(": ")
        raise DataError(text) from error
