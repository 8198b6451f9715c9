"""Embeddings of words, kept in the user's cache: words that were used before cost nothing. Imports no torch.

There is one file for each model, engine and set of templates, in ``labels`` of the cache folder: a fixed header, one
record of key and checksum a word, then the vectors. Only the head and the vectors asked for are read. A file is
written whole under another name and then renamed, by one process at a time, which first takes in what others have added
meanwhile. A file grows to :data:`MOST_BYTES`, or as far as one request needs; beyond that the oldest words go, those of
the request last. The folder grows to :data:`MOST_IN_ALL`, beyond which the files that were not used for longest go.
Whatever is wrong with a file, a word or the folder, its words are computed anew: nothing here ever keeps anybody from
working. ``CLIPPY_LABEL_CACHE=0`` switches it off.

Shapes: K word, D embedding.
"""

import hashlib
import os
import time
import zlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import IO

import numpy as np

from clippy_core.errors import UsageError
from clippy_core.files import atomic_write, remove_leftovers
from clippy_core.model.cache import cache_folder, locked

VARIABLE = "CLIPPY_LABEL_CACHE"
FOLDER = "labels"
MOST_BYTES = 8_000_000
MOST_IN_ALL = 64_000_000
PATIENCE = 2.0
"""Seconds to wait for another process that writes; after that the words are not kept."""
MAGIC = b"clippy-words-1\0\0"
HEAD = np.dtype([("magic", "S16"), ("width", "<u4"), ("count", "<u4"), ("checksum", "<u4")])
RECORD = np.dtype([("key", "V16"), ("checksum", "<u4")])


class EmbeddingCache:
    """Vectors of one model with one set of templates.

    Args:
        path: The file; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, keys: list[bytes]) -> dict[bytes, np.ndarray]:
        """The vectors that are there and whole, ``float32`` of shape (D,), by key."""
        found: dict[bytes, np.ndarray] = {}
        with suppress(OSError, ValueError), open(self.path, "rb") as file:
            width, records = _read_head(file)
            place = {record["key"].tobytes(): index for index, record in enumerate(records)}
            start = file.tell()
            for key in keys:
                if key in place:
                    file.seek(start + 4 * width * place[key])
                    data = file.read(4 * width)
                    if len(data) == 4 * width and zlib.crc32(data) == records["checksum"][place[key]]:
                        found[key] = np.frombuffer(data, "<f4")
            os.utime(self.path)
        return found

    def add(self, vectors: dict[bytes, np.ndarray], wanted: Iterable[bytes] = ()) -> None:
        """Keep vectors, all of one width; in vain if the folder cannot be written or somebody else holds it.

        Args:
            vectors: What was computed, by key.
            wanted: Keys of all that was asked for; what is kept of them already counts as just as recent.
        """
        give_up = time.monotonic() + PATIENCE

        def waiting() -> None:
            if time.monotonic() > give_up:
                raise TimeoutError

        with suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with locked(self.path.with_name(FOLDER), waiting):
                width = len(next(iter(vectors.values())))
                kept = {key: vector for key, vector in self._everything().items() if len(vector) == width}
                chosen = _chosen(kept, vectors, wanted, 4 * width + RECORD.itemsize)
                if not chosen.keys() <= kept.keys():
                    self._write(chosen, width)
                _make_room(self.path)

    def _everything(self) -> dict[bytes, np.ndarray]:
        with suppress(OSError, ValueError), open(self.path, "rb") as file:
            _, records = _read_head(file)
            return self.read([record["key"].tobytes() for record in records])
        return {}

    def _write(self, vectors: dict[bytes, np.ndarray], width: int) -> None:
        data = [np.ascontiguousarray(vector, "<f4").tobytes() for vector in vectors.values()]
        records = np.array([(key, zlib.crc32(one)) for key, one in zip(vectors, data, strict=True)], RECORD)
        head = np.array((MAGIC, width, len(data), zlib.crc32(records.tobytes())), HEAD)
        with atomic_write(self.path) as file:
            file.write(b"".join([head.tobytes(), records.tobytes(), *data]))


def embed_words(
    words: list[str],
    templates: tuple[str, ...],
    compute: Callable[[list[str]], np.ndarray],
    *,
    identity: str,
    apart: bool,
) -> np.ndarray:
    """Vectors of words, shape (K, D), from the cache as far as it has them.

    Args:
        words: The words.
        templates: What each of them is put into.
        compute: Vectors (k, D) of some of the words.
        identity: What else decides the vectors, to the last bit.
        apart: Whether a word's vector does not depend on the others; if it does, it is kept for these words only, so
            that nobody ever gets other numbers than without the cache.
    """
    folder = _folder()
    if folder is None:
        return compute(words)
    cache = EmbeddingCache(folder / f"{_digest(identity, *templates)[:16].hex()}.words")
    context = () if apart else words
    keys = [_digest(word, *context)[:16] for word in words]
    vectors = cache.read(keys)
    missing = [word for word, key in zip(words, keys, strict=True) if key not in vectors]
    if missing:
        if not apart:
            missing = words
        computed = compute(missing)
        fresh = {_digest(word, *context)[:16]: vector for word, vector in zip(missing, computed, strict=True)}
        cache.add(fresh, keys)
        vectors |= fresh
    return np.stack([vectors[key] for key in keys])


def _chosen(
    kept: dict[bytes, np.ndarray], fresh: dict[bytes, np.ndarray], wanted: Iterable[bytes], size: int
) -> dict[bytes, np.ndarray]:
    """The vectors that stay, those asked for last at the end, each of ``size`` bytes in the file.

    A set of words larger than the limit stays whole, or else every use of it would compute the same words anew. Of one
    too large for the folder the first words stay, whichever were there: the next run finds these.
    """
    vectors = kept | fresh
    most = max(1, MOST_IN_ALL // size)
    asked = {key: vectors[key] for key in list(dict.fromkeys([*wanted, *fresh]))[:most] if key in vectors}
    others = {key: vector for key, vector in vectors.items() if key not in asked}
    room = max(1, MOST_BYTES // size, len(asked), min(len(kept), most))
    left = room - len(asked)
    return dict(list(others.items())[-left:] if left else []) | asked


def _folder() -> Path | None:
    if os.environ.get(VARIABLE) == "0":
        return None
    try:
        return cache_folder() / FOLDER
    except UsageError:
        return None  # no home folder; what needs one says so


def _read_head(file: IO[bytes]) -> tuple[int, np.ndarray]:
    """Width and records; raises ValueError if this is not such a file."""
    start = file.read(HEAD.itemsize)
    if len(start) < HEAD.itemsize or not start.startswith(MAGIC):
        raise ValueError("another kind of file")
    head = np.frombuffer(start, HEAD)[0]
    data = file.read(int(head["count"]) * RECORD.itemsize)
    if zlib.crc32(data) != head["checksum"]:
        raise ValueError("damaged")
    return int(head["width"]), np.frombuffer(data, RECORD)


def _make_room(kept: Path) -> None:
    """Delete the files that were not used for longest, and what killed processes left."""
    remove_leftovers(kept.parent)
    files = sorted(kept.parent.glob("*.words"), key=lambda path: path.stat().st_mtime, reverse=True)
    total = 0
    for path in files:
        total += path.stat().st_size
        if total > MOST_IN_ALL and path != kept:
            path.unlink(missing_ok=True)


def _digest(*parts: str) -> bytes:
    text = "\0".join(parts)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
