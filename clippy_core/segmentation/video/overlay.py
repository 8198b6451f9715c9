"""A video with labels drawn in.

Frames are tinted and outlined as pictures are, but the legend stays in one corner with its rows in one order, and no
names are written in place: what jumps from frame to frame cannot be read.

Shapes: H/W pixel of the picture, h/w pixel of a part of it, 3 colours.
"""

import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageDraw

from clippy_core.errors import DataError
from clippy_core.files import TEMPORARY_PREFIX
from clippy_core.segmentation.overlay import font_for, outline, tint
from clippy_core.segmentation.result import Segmentation
from clippy_core.segmentation.video.reading import quiet_opencv
from clippy_core.segmentation.writers import with_suffix

CODECS = ((".mp4", "avc1"), (".mp4", "mp4v"), (".avi", "MJPG"))
"""Containers and codecs, best first. OpenCV's own packages have no H.264 encoder, so there it is MPEG-4 Part 2; VP9 is
there, but takes 0.2 s a frame of 1280×720 where that takes 0.006 s."""
LONGEST_STILL = 10.0
"""Seconds that one frame may stand, however late the next one comes."""
MAX_ROWS = 16
MAX_NAME = 28


class VideoFile:
    """A video that takes its name only when it is whole.

    Frames are written at a steady rate: one that comes late is preceded by repetitions of the one before, one that
    comes early is left out, so that the video keeps the time of the original.

    Args:
        stem: Folder and name without a suffix.
        rate: Frames a second.
    """

    def __init__(self, stem: Path, rate: float) -> None:
        self._stem, self._rate = stem, rate
        self._writer: cv2.VideoWriter | None = None
        self._temporary = self._path = Path()
        self._last_HW3: np.ndarray | None = None
        self._start, self._count = 0.0, 0

    def wants(self, seconds: float) -> bool:
        """Whether a frame of that time has a place in the video."""
        return self._writer is None or self._place(seconds) >= self._count

    def write(self, pixels_HW3: np.ndarray, seconds: float) -> None:
        """Add a frame, ``uint8`` RGB; a last row or column of an odd number is cut off by the codecs.

        Raises:
            DataError: This build of OpenCV can write no video.
        """
        frame_HW3 = cv2.cvtColor(pixels_HW3, cv2.COLOR_RGB2BGR)
        if self._writer is None:
            self._open(frame_HW3.shape[1], frame_HW3.shape[0])
            self._start = seconds
        missing = min(self._place(seconds) - self._count, round(LONGEST_STILL * self._rate))
        for _ in range(missing if self._last_HW3 is not None else 0):
            self._add(self._last_HW3)
        self._add(frame_HW3)
        self._last_HW3 = frame_HW3

    def finish(self) -> list[Path]:
        """Close the video and give it its name; nothing if no frame was written.

        Raises:
            OSError: What was written is not what lies on the disk.
        """
        if self._writer is None:
            return []
        with quiet_opencv():
            self._writer.release()
            # The encoder does not say when the disk is full.
            check = cv2.VideoCapture(str(self._temporary), cv2.CAP_FFMPEG)
            found = check.get(cv2.CAP_PROP_FRAME_COUNT) if check.isOpened() else 0
            check.release()
        if found < self._count:
            raise OSError(f"{self._path}: cannot be written whole; is the disk full?")
        with open(self._temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(self._temporary, self._path)
        return [self._path]

    def discard(self) -> None:
        """Close the video and delete what has not been given its name."""
        if self._writer is not None:
            with quiet_opencv():
                self._writer.release()
            self._temporary.unlink(missing_ok=True)

    def _place(self, seconds: float) -> int:
        return round((seconds - self._start) * self._rate)

    def _add(self, frame_HW3: np.ndarray | None) -> None:
        assert self._writer is not None, "opened with the first frame"
        assert frame_HW3 is not None, "there is a frame to repeat"
        self._writer.write(frame_HW3)
        self._count += 1

    def _open(self, width: int, height: int) -> None:
        self._stem.parent.mkdir(parents=True, exist_ok=True)
        for suffix, codec in CODECS:
            self._path = with_suffix(self._stem, f".overlay{suffix}")
            self._temporary = self._stem.parent.absolute() / f"{TEMPORARY_PREFIX}{secrets.token_hex(6)}{suffix}"
            with quiet_opencv():
                fourcc = cv2.VideoWriter.fourcc(*codec)
                writer = cv2.VideoWriter(str(self._temporary), cv2.CAP_FFMPEG, fourcc, self._rate, (width, height))
            if writer.isOpened():
                self._writer = writer
                return
            writer.release()
            self._temporary.unlink(missing_ok=True)
        names = ", ".join(codec for _, codec in CODECS)
        raise DataError(f"{self._path}: no video can be written here (tried {names}); leave overlay out of --save")


class _Row(NamedTuple):
    name: str
    colour: tuple[int, int, int]


class FrameOverlay:
    """Draws the frames of one video."""

    def __init__(self) -> None:
        self._rows: list[_Row] = []
        self._panel_hw4 = np.zeros((0, 0, 4), np.float32)

    def draw(self, result: Segmentation) -> np.ndarray:
        """The frame with tint, outlines and legend, ``uint8`` RGB."""
        pixels_HW3 = tint(result)
        outline(result.label_map, pixels_HW3)
        rows = _legend(result)
        if rows != self._rows:
            self._rows, self._panel_hw4 = rows, _panel(rows, result.height, result.width)
        height, width = self._panel_hw4.shape[:2]
        margin = round(_unit(result.height, result.width) / 2)
        part_hw3 = pixels_HW3[margin : margin + height, margin : margin + width]
        alpha_hw1 = self._panel_hw4[..., 3:]
        part_hw3[:] = np.rint(part_hw3 * (1 - alpha_hw1) + self._panel_hw4[..., :3] * alpha_hw1)
        return pixels_HW3


def _legend(result: Segmentation) -> list[_Row]:
    """Rows in the order of the labels: all of them, or of many the largest in this frame."""
    first = 1 if result.has_background else 0
    indices: Sequence[int] = range(first, len(result.labels))
    if len(indices) > MAX_ROWS:
        found = [index for index in indices if result.pixel_counts[index]]
        indices = sorted(sorted(found, key=lambda index: -result.pixel_counts[index])[:MAX_ROWS])
    colours = result.colours.tolist()
    return [_Row(_short(result.labels[index]), tuple(colours[index])) for index in indices]


def _panel(rows: list[_Row], height: int, width: int) -> np.ndarray:
    """The legend, ``float32`` h×w×4: RGB in 0…255 and opacity in 0…1; empty where there is no room."""
    unit = _unit(height, width)
    size = min(unit * 0.8, (height - 2 * unit) / (1.5 * max(1, len(rows)) + 1))
    if size < 5 or not rows:
        return np.zeros((0, 0, 4), np.float32)
    names = max(font_for(row.name, size).getlength(row.name) for row in rows)
    size *= min(1.0, (width - 2 * unit) / (names + 3 * size))
    if size < 5:
        return np.zeros((0, 0, 4), np.float32)
    names = max(font_for(row.name, size).getlength(row.name) for row in rows)
    panel = Image.new("RGBA", (round(names + size * 3), round(size * (1.5 * len(rows) + 0.6))))
    draw = ImageDraw.Draw(panel)
    draw.rounded_rectangle((0, 0, panel.width - 1, panel.height - 1), radius=size * 0.4, fill=(15, 15, 15, 205))
    for number, row in enumerate(rows):
        middle = size * (0.3 + 1.5 * (number + 0.5))
        swatch = (size * 0.6, middle - size / 2, size * 1.6, middle + size / 2)
        draw.rounded_rectangle(swatch, radius=size * 0.2, fill=row.colour, outline=(255, 255, 255))
        draw.text((size * 2.2, middle), row.name, font=font_for(row.name, size), fill="white", anchor="lm")
    panel_hw4 = np.asarray(panel, np.float32).copy()
    panel_hw4[..., 3] /= 255
    return panel_hw4


def _unit(height: int, width: int) -> float:
    return max(10.0, min(height, width) / 32)


def _short(name: str) -> str:
    return name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 1]}…"
