"""Reading the files that data sets keep masks in: the values as they were written, on the pixels they were drawn for.

A mask lies on its picture as the picture is displayed, with EXIF orientation applied. If it has the size of the picture
as stored instead, it was drawn on that and is turned along with it. Any other size is an error.

Shapes: H/W pixel, V value in a file, 3 RGB.
"""

import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from clippy_core.errors import DataError
from clippy_core.evaluation.dense.dataset import IGNORE, Example
from clippy_core.images import FORMATS

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

WIDE_IGNORE = 65_535
"""What pixels that count for nothing have in masks of more classes than 8 bits can tell apart."""

UNKNOWN = 254
"""In a table for :func:`look_up`: a value that no file of the data set should have."""

MASK_FORMATS = ("PNG", "TIFF", "BMP", "GIF", "PPM")
"""Formats that keep every value as it is."""

_ORIENTATION = 0x0112
_ON_ITS_SIDE = (5, 6, 7, 8)


def ignored_value(classes: int) -> int:
    """What ignored pixels have in the masks of a data set: 255, and 65,535 if there are more than 255 classes."""
    return IGNORE if classes <= IGNORE else WIDE_IGNORE


def table(
    classes: Mapping[int, int], *, ignored: Iterable[int] = (), other: int = UNKNOWN, size: int = 256
) -> "np.ndarray":
    """What each value of a file means, for :func:`look_up`.

    Args:
        classes: The class of a value.
        ignored: Values of pixels that count for nothing.
        other: The class of every other value; without it, a file that has one is refused.
        size: One more than the largest value.

    Returns:
        ``uint8`` of shape (size,): a class, :data:`IGNORE` or :data:`UNKNOWN`.
    """
    import numpy as np

    table_V = np.full(size, other, np.uint8)
    table_V[list(classes)] = list(classes.values())
    table_V[list(ignored)] = IGNORE
    return table_V


def look_up(values_HW: "np.ndarray", table_V: "np.ndarray", path: Path) -> "np.ndarray":
    """The classes that values stand for, ``uint8`` H×W.

    Raises:
        DataError: A value that is not in the table; ``path`` is named.
    """
    import numpy as np

    beyond_HW = values_HW >= len(table_V)
    classes_HW = table_V[np.where(beyond_HW, 0, values_HW)]
    unknown_HW = beyond_HW | (classes_HW == UNKNOWN)
    if unknown_HW.any():
        found = np.unique(values_HW[unknown_HW]).tolist()
        shown = ", ".join(map(str, found[:5])) + (", …" if len(found) > 5 else "")
        raise DataError(f"{path}: {unknown_HW.sum():,} pixels have values that stand for no class ({shown})")
    return classes_HW


def read_values(path: Path, example: Example) -> "np.ndarray":
    """The value of every pixel of a mask, ``uint8`` or ``uint16`` H×W.

    Palette files give their indices, grey ones of less than 8 bits the values as they were before Pillow stretches
    them.

    Raises:
        DataError: No such file, damaged, not one value a pixel, or not of the picture's size.
    """
    import numpy as np

    with _opened(path) as image:
        if image.mode not in ("1", "L", "P") and not image.mode.startswith("I"):
            raise DataError(
                f"{path}: a picture of mode {image.mode}; a mask has one number a pixel, such as a palette PNG"
            )
        values_HW, stretched = np.asarray(image), image.mode == "L" and image.format == "PNG"
    if values_HW.dtype == bool:
        values_HW = values_HW.astype(np.uint8)
    elif stretched:
        values_HW = values_HW // (255 // (2 ** _bits_of_png(path) - 1))
    if values_HW.dtype.itemsize > 2:
        if values_HW.min(initial=0) < 0 or values_HW.max(initial=0) > WIDE_IGNORE:
            raise DataError(f"{path}: values from {values_HW.min()} to {values_HW.max()}; at most 16 bits are expected")
        values_HW = values_HW.astype(np.uint16)
    return aligned(values_HW, path, example)


def read_colours(path: Path, example: Example) -> "np.ndarray":
    """The colour of every pixel of a file that encodes numbers in colours, ``uint8`` RGB H×W×3; raises alike."""
    import numpy as np

    with _opened(path) as image:
        if image.mode not in ("RGB", "RGBA"):
            raise DataError(f"{path}: a picture of mode {image.mode}; an RGB picture is expected")
        return aligned(np.asarray(image)[..., :3], path, example)


def aligned(values: "np.ndarray", source: Path | str, example: Example) -> "np.ndarray":
    """Values on the pixels of the picture as displayed, H×W or H×W×3; ``source`` is where they are from.

    Raises:
        DataError: The picture has another size, or cannot be opened.
    """
    import numpy as np

    with _opened(example.image, FORMATS) as image:
        width, height = image.size
        orientation = image.getexif().get(_ORIENTATION, 1)
    stored = (height, width)
    displayed = stored[::-1] if orientation in _ON_ITS_SIDE else stored
    if values.shape[:2] == displayed:
        return values
    if values.shape[:2] == stored:
        turned = {5: values, 6: values[::-1], 7: values[::-1, ::-1], 8: values[:, ::-1]}[orientation]
        return np.ascontiguousarray(turned.swapaxes(0, 1))
    raise DataError(
        f"{source}: {values.shape[1]}×{values.shape[0]} pixels, but {example.image} has {displayed[1]}×{displayed[0]}; "
        "a mask has the size of its picture"
    )


def numbered_from_one(values_HW: "np.ndarray", kept_HW: "np.ndarray") -> "np.ndarray":
    """Objects numbered 1, 2, … in the order of their values, ``int32`` H×W; 0 where ``kept_HW`` is not true."""
    import numpy as np

    objects_HW = np.zeros(values_HW.shape, np.int32)
    objects_HW[kept_HW] = np.unique(values_HW[kept_HW], return_inverse=True)[1].reshape(-1) + 1
    return objects_HW


@contextmanager
def _opened(path: Path, formats: tuple[str, ...] = MASK_FORMATS) -> Iterator["Image.Image"]:
    """The picture, decoded when it is first looked at.

    Raises:
        DataError: It is not there, not a picture, or damaged; also if that shows while the block decodes it.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path, formats=formats) as image:
            yield image
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except UnidentifiedImageError as error:
        raise DataError(f"{path}: not a picture in an accepted format ({', '.join(formats)})") from error
    except (
        OSError,
        ValueError,
        SyntaxError,
        EOFError,
        struct.error,
        zlib.error,
        Image.DecompressionBombError,
    ) as error:
        raise DataError(f"{path}: damaged or cannot be read ({error})") from error


def _bits_of_png(path: Path) -> int:
    """Bits a sample, 1 to 16, from the file's head."""
    with open(path, "rb") as file:
        return file.read(25)[24]
