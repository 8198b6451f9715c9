"""Picture outputs, all of the size of the picture as displayed."""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from clippy_core.errors import UsageError
from clippy_core.segmentation.overlay import draw_overlay
from clippy_core.segmentation.palette import UNDECIDED_COLOUR
from clippy_core.segmentation.result import Segmentation
from clippy_core.segmentation.writers import with_suffix
from clippy_core.segmentation.writers.png import write_png


class Pixels(NamedTuple):
    """What goes into a PNG; see :func:`clippy_core.segmentation.writers.png.write_png`."""

    values: np.ndarray
    palette: np.ndarray | None = None


def overlay_pixels(result: Segmentation) -> Pixels:
    """The picture with labels drawn in, RGB."""
    return Pixels(draw_overlay(result))


def label_map_pixels(result: Segmentation) -> Pixels:
    """Pixel value = index of the label; 8-bit with a palette up to 255 labels, else 16-bit grey."""
    if result.label_map.dtype == np.uint16:
        return Pixels(result.label_map)
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(result.labels)] = result.colours
    palette[result.undecided] = UNDECIDED_COLOUR
    return Pixels(result.label_map, palette)


def score_pixels(result: Segmentation) -> Pixels:
    """The winner's cosine at every pixel, 16-bit grey, value = (cosine + 1) / 2 · 65535.

    Raises:
        UsageError: The segmentation was made without a score map.
    """
    if result.score_map is None:
        raise UsageError("the scores output needs a segmentation made with score_map=True")
    return Pixels(np.rint((result.score_map.clip(-1, 1) + 1) * (65535 / 2)).astype(np.uint16))


def write_overlay(result: Segmentation, stem: Path) -> list[Path]:
    """``.overlay.png``: the picture with labels drawn in."""
    return [_write(stem, ".overlay.png", overlay_pixels(result))]


def write_label_map(result: Segmentation, stem: Path) -> list[Path]:
    """``.labels.png``: pixel value = index of the label; 8-bit with a palette up to 255 labels, else 16-bit grey."""
    return [_write(stem, ".labels.png", label_map_pixels(result))]


def write_scores(result: Segmentation, stem: Path) -> list[Path]:
    """``.scores.png``: the winner's cosine at every pixel, 16-bit grey, value = (cosine + 1) / 2 · 65535."""
    return [_write(stem, ".scores.png", score_pixels(result))]


def write_masks(result: Segmentation, stem: Path) -> list[Path]:
    """``.mask.INDEX-NAME.png``: 255 where the label is, 0 elsewhere; one file for each label that has a pixel."""
    paths = []
    for index in np.flatnonzero(result.pixel_counts):
        mask = Pixels(np.where(result.label_map == index, np.uint8(255), np.uint8(0)))
        paths.append(_write(stem, f".mask.{index:03d}-{_slug(result.labels[index])}.png", mask))
    return paths


def _write(stem: Path, suffix: str, pixels: Pixels) -> Path:
    path = with_suffix(stem, suffix)
    write_png(path, pixels.values, pixels.palette)
    return path


def _slug(name: str) -> str:
    """A label as part of a file name: letters, digits, dashes; never a path."""
    return re.sub(r"[^\w]+", "-", name, flags=re.UNICODE).strip("-_")[:40] or "label"
