"""Picture outputs, all of the size of the picture as displayed."""

import re
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from clippy_core.errors import UsageError
from clippy_core.files import write_bytes
from clippy_core.segmentation.palette import UNDECIDED_COLOUR
from clippy_core.segmentation.result import Segmentation
from clippy_core.segmentation.writers import with_suffix

# On a 12-megapixel overlay 0.42 s and 15.5 MB; OpenCV's default takes 0.49 s and 15.1 MB, its level 1 alone 0.76 s.
# Photographs hardly shrink by searching for repetitions, so only the filter and the entropy code are left to work.
PHOTO = (cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, 2, cv2.IMWRITE_PNG_FILTER, 64)
FLAT = (cv2.IMWRITE_PNG_COMPRESSION, 6)


def write_overlay(result: Segmentation, stem: Path) -> list[Path]:
    """``.overlay.png``: the picture with labels drawn in."""
    path = with_suffix(stem, ".overlay.png")
    pixels = np.asarray(result.overlay())
    return [_write_png(path, cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), PHOTO)]


def write_label_map(result: Segmentation, stem: Path) -> list[Path]:
    """``.labels.png``: pixel value = index of the label; 8-bit with a palette up to 255 labels, else 16-bit grey."""
    path = with_suffix(stem, ".labels.png")
    if result.label_map.dtype == np.uint16:
        return [_write_png(path, result.label_map, FLAT)]
    image = Image.fromarray(result.label_map)
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(result.labels)] = result.colours
    palette[result.undecided] = UNDECIDED_COLOUR
    image.putpalette(palette.tobytes())
    buffer = BytesIO()
    image.save(buffer, "PNG")
    write_bytes(path, buffer.getvalue())
    return [path]


def write_masks(result: Segmentation, stem: Path) -> list[Path]:
    """``.mask.INDEX-NAME.png``: 255 where the label is, 0 elsewhere; one file for each label that has a pixel."""
    return [
        _write_png(
            with_suffix(stem, f".mask.{index:03d}-{_slug(name)}.png"),
            (result.label_map == index).astype(np.uint8) * 255,
            FLAT,
        )
        for index, name in enumerate(result.labels)
        if result.pixel_counts[index]
    ]


def write_scores(result: Segmentation, stem: Path) -> list[Path]:
    """``.scores.png``: the winner's cosine at every pixel, 16-bit grey, value = (cosine + 1) / 2 · 65535."""
    if result.score_map is None:
        raise UsageError("the scores output needs a segmentation made with score_map=True")
    values = np.rint((result.score_map.clip(-1, 1) + 1) * (65535 / 2)).astype(np.uint16)
    return [_write_png(with_suffix(stem, ".scores.png"), values, FLAT)]


def _write_png(path: Path, pixels: np.ndarray, parameters: tuple[int, ...]) -> Path:
    encoded, data = cv2.imencode(".png", pixels, parameters)
    assert encoded, "PNG encoding of an array in memory does not fail"
    write_bytes(path, data.tobytes())
    return path


def _slug(name: str) -> str:
    """A label as part of a file name: letters, digits, dashes; never a path."""
    return re.sub(r"[^\w]+", "-", name, flags=re.UNICODE).strip("-_")[:40] or "label"
