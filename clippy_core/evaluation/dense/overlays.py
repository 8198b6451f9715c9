"""Pictures of what went wrong: prediction on the left, truth on the right.

Shapes: H/W pixel.
"""

import re
from pathlib import Path

import numpy as np
from PIL import Image

from clippy_core.evaluation.dense.dataset import DenseDataset
from clippy_core.evaluation.dense.geometry import Sample
from clippy_core.files import remove_leftovers
from clippy_core.images import Picture
from clippy_core.segmentation.overlay import draw_overlay
from clippy_core.segmentation.result import Segmentation
from clippy_core.segmentation.writers.png import write_png

FOLDER = "worst"
GAP = 8
"""Pixels of white between the two."""


def worst_first(mious_N: np.ndarray, done_N: np.ndarray, count: int) -> list[int]:
    """Places of the pictures with the lowest mIoU, lowest first; pictures without a value are left out."""
    usable = [int(index) for index in np.flatnonzero(done_N) if not np.isnan(mious_N[index])]
    return sorted(usable, key=lambda index: (mious_N[index], index))[:count]


def write_overlay(out: Path, place: int, sample: Sample, labels_HW: np.ndarray, dataset: DenseDataset) -> Path:
    """Draw a picture and write ``out/worst/PLACE-NAME.png``.

    Args:
        out: The run's folder.
        place: 1 for the worst.
        sample: The picture, with its mask.
        labels_HW: What was predicted.
        dataset: What the classes are.

    Raises:
        OSError: The file cannot be written.
    """
    assert sample.truth_HW is not None, "read with masks"
    height, width = sample.size
    pixels_HW3 = sample.pixels_HW3
    if pixels_HW3.shape[:2] != sample.size:
        pixels_HW3 = np.asarray(Image.fromarray(pixels_HW3).resize((width, height), Image.Resampling.BICUBIC))
    sides = [draw_overlay(_shown(pixels_HW3, map_HW, dataset)) for map_HW in (labels_HW, sample.truth_HW)]
    gap_HG3 = np.full((height, GAP, 3), 255, np.uint8)
    name = re.sub(r"[^\w.-]+", "_", sample.example.name)
    path = out / FOLDER / f"{place:03}-{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_png(path, np.concatenate([sides[0], gap_HG3, sides[1]], axis=1))
    return path


def clear(out: Path) -> None:
    """Delete the overlays of an earlier run, whose places are no longer theirs."""
    folder = out / FOLDER
    if folder.is_dir():
        remove_leftovers(folder)
        for path in folder.glob("[0-9][0-9][0-9]-*.png"):
            path.unlink(missing_ok=True)


def _shown(pixels_HW3: np.ndarray, map_HW: np.ndarray, dataset: DenseDataset) -> Segmentation:
    """Classes as a segmentation, for drawing; what is no class is undecided, and the background comes first."""
    count, background = len(dataset.classes), dataset.background
    order = [*range(count)] if background is None else [background, *(i for i in range(count) if i != background)]
    dtype = np.uint8 if count <= 255 else np.uint16
    place_of_class = np.empty(count, np.int64)
    place_of_class[order] = np.arange(count)
    known_HW = (map_HW >= 0) & (map_HW < count)
    places_HW = np.where(known_HW, place_of_class[np.where(known_HW, map_HW, 0)], np.iinfo(dtype).max)
    return Segmentation(
        picture=Picture(pixels_HW3, "array"),
        label_map=places_HW.astype(dtype),
        labels=tuple(dataset.classes[index] for index in order),
        scores=np.zeros(count, np.float32),
        has_background=background is not None,
    )
