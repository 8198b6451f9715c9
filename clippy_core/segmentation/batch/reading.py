"""What happens to a picture before the model sees it: opened, decoded, resized, and only if there is room for it.

Shapes: H/W pixel, 3 colours.
"""

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from clippy_core.errors import DataError
from clippy_core.images import Picture, read_picture
from clippy_core.model.preprocess import working_size
from clippy_core.segmentation.inputs import VIDEO, Input
from clippy_core.segmentation.options import MAX_SIZE, MIN_SIZE, SegmentOptions

if TYPE_CHECKING:
    from clippy_core.segmentation.segmenter import Segmenter

MOST_PIXELS = 64_000_000
"""Pixels on their way above which no further picture is begun."""
UNSIZED = (0, 0)


@dataclass(frozen=True, slots=True)
class Read:
    """An input on its way to the model; without a picture it is a video, or could not be read.

    ``size`` is the model's input's, by which pictures are batched; ``UNSIZED`` is one that the model resizes itself.
    """

    item: Input
    seconds: float
    picture: Picture | None = None
    model_input_HW3: np.ndarray | None = None
    size: tuple[int, int] = UNSIZED
    error: str | None = None

    @property
    def pixels(self) -> int:
        """How many pixels the picture has."""
        return 0 if self.picture is None else self.picture.size[0] * self.picture.size[1]


class Room:
    """Pixels of the pictures on their way; no further one is decoded while there are too many.

    Args:
        most: How many are too many.
    """

    def __init__(self, most: int) -> None:
        self._most, self._held, self._open = most, 0, True
        self._changed = threading.Condition()

    def wait(self) -> None:
        """Wait until there is room."""
        with self._changed:
            self._changed.wait_for(lambda: self._held < self._most or not self._open)

    def enter(self, pixels: int) -> None:
        """A picture has come."""
        with self._changed:
            self._held += pixels

    def leave(self, pixels: int) -> None:
        """A picture has gone."""
        with self._changed:
            self._held -= pixels
            self._changed.notify_all()

    def close(self) -> None:
        """Let all who wait go: nobody makes room any more."""
        with self._changed:
            self._open = False
            self._changed.notify_all()


class Reader:
    """Reads inputs; used by several threads.

    Args:
        segmenter: The model, for the size it wants.
        options: How to segment.

    Attributes:
        room: For pictures on their way; whoever is done with one says so.
    """

    def __init__(self, segmenter: "Segmenter", options: SegmentOptions) -> None:
        self._options = options
        self._short_side = options.size or segmenter.config.vision.size
        self._stride = segmenter.engine.stride
        self.room = Room(MOST_PIXELS)

    def read(self, item: Input) -> Read:
        """An input, ready for the model; waits until there is room."""
        if item.kind == VIDEO and not item.fault:
            return Read(item, 0.0)
        self.room.wait()
        start = time.perf_counter()
        try:
            picture = read_picture(item.open(), max_pixels=self._options.max_pixels)
        except (DataError, OSError) as error:
            return Read(item, time.perf_counter() - start, error=one_line(error, item.source))
        self.room.enter(picture.size[0] * picture.size[1])
        pixels_HW3, size = self.resized(picture.pixels_HW3)
        return Read(item, time.perf_counter() - start, picture, pixels_HW3, size)

    def resized(self, pixels_HW3: np.ndarray) -> tuple[np.ndarray, tuple[int, int]]:
        """The picture as the model takes it, and its size: resized here, so that the model need not wait for that."""
        from PIL import Image

        height, width = working_size(pixels_HW3.shape[:2], self._short_side, self._stride)
        kept = working_size((height, width), min(height, width), self._stride) == (height, width)
        if not kept or not MIN_SIZE <= min(height, width) <= MAX_SIZE:
            return pixels_HW3, UNSIZED  # too elongated, or rounded to a size that cannot be asked for
        # The same as the model's own first step, which then finds nothing left to do.
        image = Image.fromarray(pixels_HW3).resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3.0)
        return np.asarray(image), (height, width)


def one_line(error: DataError | OSError, source: str) -> str:
    """Why an input failed, beginning with its name.

    Args:
        error: What was raised over it.
        source: The input.
    """
    if not isinstance(error, OSError):
        return " ".join(str(error).split())
    name = error.filename if error.filename2 is None else error.filename2
    reason = error.strerror or str(error)
    return f"{source}: {reason}" if name in (None, source) else f"{source}: {name}: {reason}"
