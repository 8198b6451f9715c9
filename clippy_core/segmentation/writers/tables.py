"""``summary.csv``: what a run found, a row for each picture and label."""

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path

from clippy_core.errors import DataError
from clippy_core.files import atomic_write, write_bytes
from clippy_core.segmentation.result import Segmentation
from clippy_core.segmentation.writers import CollectingWriter, fragment_path

NAME = "summary.csv"
COLUMNS = ("image", "index", "label", "pixels", "fraction", "score", "x", "y", "width", "height")


def write_rows(result: Segmentation, stem: Path) -> list[Path]:
    """The picture's rows as they will stand in the table; labels without a pixel included."""
    rows = [
        (result.source, index, name, pixels, f"{fraction:.6f}", "" if math.isnan(score) else f"{score:.5f}", *box)
        for index, name, pixels, fraction, score, box in result.summary()
    ]
    path = fragment_path(stem, "csv", ".csv")
    write_bytes(path, _lines(rows))
    return [path]


def merge_rows(out: Path, fragments: Sequence[Path]) -> list[Path]:
    """``OUT/summary.csv``: UTF-8, commas, one line of headings, pictures in the order of their outputs' paths."""
    path = out / NAME
    with atomic_write(path) as file:
        file.write(_lines([COLUMNS]))
        for fragment in fragments:
            try:
                file.write(fragment.read_bytes())
            except OSError as error:
                raise DataError(f"{fragment}: cannot be read ({error.strerror}); --overwrite makes it anew") from error
    return [path]


def _lines(rows: Sequence[Sequence[object]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode("utf-8", "backslashreplace")


write_csv = CollectingWriter(write_rows, merge_rows)
"""The writer ``csv``."""
