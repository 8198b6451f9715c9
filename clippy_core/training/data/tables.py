"""Tables with a path and a caption a row. Only where each row lies in the file is kept in memory."""

import csv
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from clippy_core.errors import ConfigError, DataError
from clippy_core.training.data import Sample
from clippy_core.training.data.captions import cleaned, shown
from clippy_core.training.data.folders import read_image
from clippy_core.training.data.order import permutation
from clippy_core.training.data.shard_index import stamp_of

DELIMITERS = {".csv": (",", "\t", ";"), ".tsv": ("\t", ",", ";")}
"""What separates columns, the likeliest first; OpenCLIP's ``.csv`` files have tabs."""


class TableSource:
    """Rows of a ``.csv`` or ``.tsv`` file with a header; paths are relative to the file's folder.

    Raises:
        ConfigError: A column that the table does not have.
        DataError: The file cannot be read, or has not one complete row.
    """

    def __init__(self, path: str, image_column: str, caption_column: str) -> None:
        self._path = Path(path)
        self._name = shown(path)
        self._problems: list[str] = []
        try:
            with open(self._path, "rb") as file:
                self._stamp = stamp_of(os.fstat(file.fileno()))
                columns, self._delimiter = self._header(file, image_column, caption_column)
                self._image, self._caption = columns.index(image_column), columns.index(caption_column)
                starts, lines, self._partial = self._rows(file)
        except OSError as error:
            raise DataError(f"{self._name}: cannot be read ({error.strerror or error})") from error
        self._starts_N, self._lines_N = np.array(starts, np.int64), np.array(lines, np.int64)
        if self._partial:
            self._problems.append(f"{self._name}: {self._partial:,} rows lack a path or a caption")
        if not len(self):
            raise DataError(f"{self._name}: not one row has both {image_column!r} and {caption_column!r}")

    def __len__(self) -> int:
        return len(self._starts_N)

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
        key = f"{self._name}:{self._lines_N[number]}"
        try:
            with open(self._path, "rb") as file:
                if stamp_of(os.fstat(file.fileno())) != self._stamp:
                    raise DataError(f"{key}: the table was changed while it was being used")
                file.seek(int(self._starts_N[number]))
                row = next(csv.reader(_decoded(file), delimiter=self._delimiter))
        except (OSError, csv.Error, StopIteration) as error:
            raise DataError(f"{key}: cannot be read ({error})") from error
        image = self._path.parent / row[self._image]
        try:
            return Sample(key, read_image(image), cleaned(row[self._caption]))
        except DataError as error:
            raise DataError(f"{key}: {error}") from error

    def _header(self, file: BinaryIO, image_column: str, caption_column: str) -> tuple[list[str], str]:
        """The columns' names, and what separates them."""
        wanted = {image_column, caption_column}
        first: list[str] = []
        for delimiter in DELIMITERS.get(self._path.suffix.lower(), DELIMITERS[".csv"]):
            file.seek(0)
            try:
                columns = [column.strip() for column in next(csv.reader(_decoded(file), delimiter=delimiter), [])]
            except csv.Error as error:
                raise DataError(f"{self._name}: not a table ({error})") from error
            if wanted <= set(columns):
                return columns, delimiter
            first = first or columns
        missing = "image_column" if image_column not in first else "caption_column"
        value = image_column if missing == "image_column" else caption_column
        found = ", ".join(map(repr, first[:20])) or "no columns"
        raise ConfigError(f"{self._name}: data.{missing} is {value!r}; the table has {found}")

    def _rows(self, file: BinaryIO) -> tuple[list[int], list[int], int]:
        """Where complete rows begin, their lines, and how many are incomplete; ``file`` stands after the header."""
        starts, lines, partial = [], [], 0
        file.seek(0)
        text = _Counted(file)
        reader = csv.reader(text, delimiter=self._delimiter)
        next(reader)
        start, line = text.position, reader.line_num + 1
        try:
            for row in reader:
                if len(row) > max(self._image, self._caption) and row[self._image] and row[self._caption].strip():
                    starts.append(start)
                    lines.append(line)
                elif row:
                    partial += 1
                start, line = text.position, reader.line_num + 1
        except csv.Error as error:
            raise DataError(f"{self._name}:{line}: not a row ({error}); is a quotation mark open?") from error
        return starts, lines, partial


class _Counted:
    """Lines of a file, and where the next one begins."""

    def __init__(self, file: BinaryIO) -> None:
        self._lines = _decoded_with_size(file)
        self.position = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        text, size = next(self._lines)
        self.position += size
        return text


def _decoded_with_size(file: BinaryIO) -> Iterator[tuple[str, int]]:
    # A byte order mark stands at the beginning only.
    coding = "utf-8-sig" if file.tell() == 0 else "utf-8"
    while line := file.readline():
        yield line.decode(coding, "replace"), len(line)
        coding = "utf-8"


def _decoded(file: BinaryIO) -> Iterator[str]:
    return (text for text, _ in _decoded_with_size(file))
