"""Frames of a video, one after another, as a person sees them.

Shapes: H/W pixel, 3 colours.
"""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from clippy_core.errors import DataError, ImageError

USUAL_RATE, HIGHEST_RATE = 25.0, 1000.0
"""Frames a second where a file says nothing of use, and the most that is believed."""
TOLERATED = 0.02
"""Share of a video that may be missing at its end: the lengths that files state are not exact."""


@dataclass(frozen=True)
class Frame:
    """One frame.

    Attributes:
        number: Its place in the video, from 0, those that were passed over counted.
        seconds: When it is shown, from the start of the video.
        pixels_HW3: ``uint8`` RGB, turned as the file says.
    """

    number: int
    seconds: float
    pixels_HW3: np.ndarray


class VideoReader:
    """A video file that is open, to be read once from its beginning.

    Args:
        source: Its path.
        max_pixels: The largest frame accepted.

    Attributes:
        rate: Frames a second, on average; what the file says, or 25 if that is no use.
        expected: How many frames the file says it has; 0 if it does not.

    Raises:
        DataError: The file cannot be read, holds no video that OpenCV can decode, or has larger frames.
    """

    def __init__(self, source: str, *, max_pixels: int) -> None:
        self._source = source
        _check(source)
        with quiet_opencv():
            # An absolute path, for "rtsp:x.mp4" is an address to FFmpeg.
            self._capture = cv2.VideoCapture(str(Path(source).absolute()), cv2.CAP_FFMPEG)
        if not self._capture.isOpened():
            raise DataError(f"{source}: not a video that OpenCV can read, or damaged (sound alone is no video)")
        self._capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)
        width, height = (int(self._capture.get(name)) for name in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        if width * height > max_pixels:
            self.close()
            raise ImageError(
                f"{source}: {width}×{height} is {width * height:,} pixels a frame; the limit is {max_pixels:,} "
                "(--max-pixels)"
            )
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.rate = rate if 0 < rate <= HIGHEST_RATE else USUAL_RATE
        expected = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.expected = int(expected) if 0 < expected < 2**40 else 0
        self._count, self._seconds = 0, 0.0

    def frames(self, fps: float | None = None) -> Iterator[Frame]:
        """The frames, decoded as they are asked for.

        Args:
            fps: So many a second: the first frame at or after each multiple of 1/fps; None for all.

        Raises:
            DataError: No frame can be decoded, or the video ends before its stated end; what comes before was given.
        """
        due, size = 0.0, None
        while self._capture.grab():
            number, seconds = self._count, self._time()
            self._count, self._seconds = number + 1, seconds
            # Timestamps are rounded to whole milliseconds or worse in many files.
            if fps is not None and seconds < due - 0.001:
                continue
            decoded, pixels_HW3 = self._capture.retrieve()
            if not decoded:
                self._count = number
                break
            size = size or pixels_HW3.shape[:2]
            if pixels_HW3.shape[:2] != size:
                raise DataError(f"{self._source}: the size of the frames changes after {number}; the outputs end there")
            if fps is not None:
                due = (math.floor((seconds + 0.001) * fps) + 1) / fps
            yield Frame(number, seconds, cv2.cvtColor(pixels_HW3, cv2.COLOR_BGR2RGB))
        self._check_end()

    def close(self) -> None:
        """Close the file."""
        self._capture.release()

    def __enter__(self) -> "VideoReader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _time(self) -> float:
        """When the frame that was just grabbed is shown; the rate decides where the file gives no later time."""
        seconds = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        if self._count == 0:
            return max(seconds, 0.0) if math.isfinite(seconds) else 0.0
        return seconds if math.isfinite(seconds) and seconds > self._seconds else self._seconds + 1 / self.rate

    def _check_end(self) -> None:
        if self._count == 0:
            raise DataError(f"{self._source}: no frame of this video can be decoded")
        # A film of varying rate has fewer frames than its usual rate promises, but it reaches its end.
        end = (1 - TOLERATED) * self.expected / self.rate - 1 / self.rate
        if self._count < (1 - TOLERATED) * self.expected - 1 and self._seconds < end:
            raise DataError(
                f"{self._source}: breaks off after {self._count} of about {self.expected} frames "
                f"({self._seconds:.1f} of {self.expected / self.rate:.1f} s); the outputs end there"
            )


@contextmanager
def quiet_opencv() -> Iterator[None]:
    """Keep OpenCV and FFmpeg from writing to the terminal: what matters of it is said by an error."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    before = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(before)


def _check(source: str) -> None:
    path = Path(source)
    try:
        source.encode("utf-8")
        if not path.is_file():
            raise DataError(f"{source}: {'not a regular file' if path.exists() else 'no such file'}")
        with open(path, "rb") as file:
            if not file.read(1):
                raise DataError(f"{source}: the file is empty")
    except UnicodeEncodeError as error:
        # OpenCV ends the process on such a name.
        raise DataError(f"{source!a}: OpenCV opens only videos whose names are UTF-8; rename it") from error
    except OSError as error:
        raise DataError(f"{source}: cannot be read ({error.strerror or error})") from error
