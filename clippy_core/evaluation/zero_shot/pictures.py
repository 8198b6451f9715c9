"""Pictures for a classifier: decoded ahead of the model, cut or resized to the size it works at.

Shapes: S side of a square, H/W pixel.
"""

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np

from clippy_core.errors import ImageError
from clippy_core.images import MAX_PIXELS, read_picture
from clippy_core.model.preprocess import working_size

AHEAD = 2
"""Batches that are decoded before they are asked for."""
MAX_THREADS = 8

_Item = TypeVar("_Item")
Prepare = Callable[[np.ndarray], np.ndarray]


def centre_crop(pixels_HW3: np.ndarray, side: int) -> np.ndarray:
    """Resize the short side to ``side`` (bicubic, antialiased) and cut the middle out, ``uint8`` S×S×3.

    To the pixel what published protocols do: the long side is rounded down, half pixels of the cut to even.
    """
    from PIL import Image

    height, width = pixels_HW3.shape[:2]
    short = min(height, width)
    height, width = (side if length == short else int(side * length / short) for length in (height, width))
    resized_HW3 = np.asarray(Image.fromarray(pixels_HW3).resize((width, height), Image.Resampling.BICUBIC))
    top, left = round((height - side) / 2), round((width - side) / 2)
    return resized_HW3[top : top + side, left : left + side]


def resize_whole(pixels_HW3: np.ndarray, side: int, stride: int) -> np.ndarray:
    """The whole picture at the size that segmentation would give it, ``uint8``; see :func:`working_size`."""
    from PIL import Image

    height, width = working_size(pixels_HW3.shape[:2], side, stride)
    image = Image.fromarray(pixels_HW3)
    # As in to_input, so that its own resizing finds nothing left to do.
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3.0))


def read_ahead(
    batches: Iterable[Sequence[_Item]],
    path_of: Callable[[_Item], Path],
    prepare: Prepare,
    *,
    max_pixels: int = MAX_PIXELS,
) -> Iterator[list[tuple[_Item, np.ndarray | ImageError]]]:
    """Every batch with its pictures prepared, or the reason why one cannot be used; decoded in threads, in order."""

    def read(item: _Item) -> np.ndarray | ImageError:
        try:
            return prepare(read_picture(path_of(item), max_pixels=max_pixels).pixels_HW3)
        except ImageError as error:
            return error

    waiting: list[tuple[Sequence[_Item], list[Future[np.ndarray | ImageError]]]] = []
    # Decoding silences warnings, which in threads may outlast it: whatever is left of that ends here.
    with warnings.catch_warnings(), ThreadPoolExecutor(min(MAX_THREADS, os.cpu_count() or 1)) as pool:
        try:
            for batch in batches:
                waiting.append((batch, [pool.submit(read, item) for item in batch]))
                if len(waiting) > AHEAD:
                    yield _result(*waiting.pop(0))
            while waiting:
                yield _result(*waiting.pop(0))
        finally:
            for _, futures in waiting:
                for future in futures:
                    future.cancel()


def _result(
    batch: Sequence[_Item], futures: "list[Future[np.ndarray | ImageError]]"
) -> "list[tuple[_Item, np.ndarray | ImageError]]":
    return [(item, future.result()) for item, future in zip(batch, futures, strict=True)]
