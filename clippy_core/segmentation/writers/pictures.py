"""Picture outputs, all of the size of the picture as displayed."""

import re
from pathlib import Path

import numpy as np

from clippy_core.errors import UsageError
from clippy_core.segmentation.overlay import draw_overlay
from clippy_core.segmentation.palette import UNDECIDED_COLOUR
from clippy_core.segmentation.result import Segmentation
from clippy_core.segmentation.writers import with_suffix
from clippy_core.segmentation.writers.png import write_png


def write_overlay(result: Segmentation, stem: Path) -> list[Path]:
    """``.overlay.png``: the picture with labels drawn in."""
    path = with_suffix(stem, ".overlay.png")
    write_png(path, draw_overlay(result))
    return [path]


def write_label_map(result: Segmentation, stem: Path) -> list[Path]:
    """``.labels.png``: pixel value = index of the label; 8-bit with a palette up to 255 labels, else 16-bit grey."""
    path = with_suffix(stem, ".labels.png")
    if result.label_map.dtype == np.uint16:
        write_png(path, result.label_map)
        return [path]
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(result.labels)] = result.colours
    palette[result.undecided] = UNDECIDED_COLOUR
    write_png(path, result.label_map, palette)
    return [path]


def write_masks(result: Segmentation, stem: Path) -> list[Path]:
    """``.mask.INDEX-NAME.png``: 255 where the label is, 0 elsewhere; one file for each label that has a pixel."""
    paths = []
    for index in np.flatnonzero(result.pixel_counts):
        paths.append(with_suffix(stem, f".mask.{index:03d}-{_slug(result.labels[index])}.png"))
        write_png(paths[-1], np.where(result.label_map == index, np.uint8(255), np.uint8(0)))
    return paths


def write_scores(result: Segmentation, stem: Path) -> list[Path]:
    """``.scores.png``: the winner's cosine at every pixel, 16-bit grey, value = (cosine + 1) / 2 · 65535."""
    if result.score_map is None:
        raise UsageError("the scores output needs a segmentation made with score_map=True")
    path = with_suffix(stem, ".scores.png")
    write_png(path, np.rint((result.score_map.clip(-1, 1) + 1) * (65535 / 2)).astype(np.uint16))
    return [path]


def _slug(name: str) -> str:
    """A label as part of a file name: letters, digits, dashes; never a path."""
    return re.sub(r"[^\w]+", "-", name, flags=re.UNICODE).strip("-_")[:40] or "label"
