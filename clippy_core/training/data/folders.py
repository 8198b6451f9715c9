"""A folder of pictures with a caption file beside each."""

import os
from pathlib import Path

import numpy as np

from clippy_core.errors import DataError
from clippy_core.images import SUFFIXES as IMAGES
from clippy_core.training.data import Sample
from clippy_core.training.data.captions import LARGEST as LARGEST_CAPTION
from clippy_core.training.data.captions import SUFFIXES as CAPTIONS
from clippy_core.training.data.captions import parse, parse_box, shown
from clippy_core.training.data.decode import LARGEST as LARGEST_IMAGE
from clippy_core.training.data.order import permutation


class FolderSource:
    """Pairs such as ``a/b.jpg`` and ``a/b.txt``, in and below a folder, in the order of their names.

    Links are followed, but no folder is entered twice. Hidden files are passed over.

    Raises:
        DataError: The folder cannot be read or has no pair.
    """

    def __init__(self, path: str) -> None:
        self._folder = Path(path)
        self._name = shown(path)
        pairs: list[tuple[str, str]] = []
        self._partial = 0
        self._problems: list[str] = []
        self._search("", pairs, set())
        if not pairs:
            raise DataError(
                f"{self._name}: no picture has a caption file beside it ({self._partial:,} pictures without); expected "
                f"are pairs such as a.jpg and a.txt, in any subfolder; accepted captions: {', '.join(CAPTIONS)}"
            )
        if self._partial:
            self._problems.append(f"{self._name}: {self._partial:,} pictures have no caption file")
        # One piece of memory for all names: it is pickled into workers, and a million objects would take long.
        names = [os.fsencode(image) + b"\0" + caption.encode() for image, caption in pairs]
        self._names, self._ends_N = b"".join(names), np.cumsum([len(name) for name in names], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._ends_N)

    def order(self, epoch: int, seed: int) -> np.ndarray:
        """See :class:`clippy_core.training.data.Source`."""
        return permutation(len(self), epoch, seed)

    def counts(self) -> dict[str, int]:
        """See :class:`clippy_core.training.data.Source`."""
        return {"samples": len(self), "partial": self._partial}

    def problems(self) -> list[str]:
        """See :class:`clippy_core.training.data.Source`."""
        return list(self._problems)

    def read(self, number: int) -> Sample:
        """See :class:`clippy_core.training.data.Source`."""
        start = int(self._ends_N[number - 1]) if number else 0
        name, _, suffix = self._names[start : int(self._ends_N[number])].partition(b"\0")
        image = self._folder / os.fsdecode(name)
        key = shown(str(image))
        caption = image.with_suffix(f".{suffix.decode()}")
        data = read_image(image)
        is_json = suffix.lower() == b"json"
        try:
            said = read_file(caption, LARGEST_CAPTION)
            return Sample(key, data, parse(said, is_json=is_json), parse_box(said) if is_json else None)
        except DataError as error:
            raise DataError(f"{key}: {error}") from error

    def _search(self, below: str, pairs: list[tuple[str, str]], entered: set[tuple[int, int]]) -> None:
        folder = self._folder / below
        try:
            status = folder.stat()
            if (status.st_dev, status.st_ino) in entered:
                return
            entered.add((status.st_dev, status.st_ino))
            names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
        except OSError as error:
            line = f"{shown(str(folder))}: cannot be read ({error.strerror or error})"
            if not below:
                raise DataError(line) from error
            self._problems.append(line)
            return
        present = set(names)
        for name in names:
            inside = f"{below}/{name}" if below else name
            stem, dot, suffix = name.rpartition(".")
            if dot + suffix.lower() in IMAGES:
                captions = (f"{stem}.{kind}" for kind in (*CAPTIONS, *map(str.upper, CAPTIONS)))
                caption = next((caption for caption in captions if caption in present), None)
                if caption is None:
                    self._partial += 1
                else:
                    pairs.append((inside, caption.rpartition(".")[2]))
            elif _is_folder(folder / name):
                self._search(inside, pairs, entered)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False


def read_image(path: Path) -> bytes:
    """The bytes of a picture's file.

    Raises:
        DataError: See :func:`read_file`.
    """
    return read_file(path, LARGEST_IMAGE)


def read_file(path: Path, largest: int) -> bytes:
    """The bytes of a regular file.

    Raises:
        DataError: It does not exist, cannot be read, is no regular file, or has more than ``largest`` bytes.
    """
    name = shown(str(path))
    try:
        # Looked at first: opening a named pipe would wait for ever.
        if path.exists() and not path.is_file():
            raise DataError(f"{name}: not a regular file")
        with open(path, "rb") as file:
            data = file.read(largest + 1)
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise DataError(f"{name}: cannot be read ({reason})") from error
    if len(data) > largest:
        raise DataError(f"{name}: more than {largest:,} bytes")
    return data
