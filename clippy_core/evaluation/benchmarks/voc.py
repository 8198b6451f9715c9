"""PASCAL VOC 2012, segmentation: 20 kinds of objects, with or without a class for everything else.

Layout, below DIR, ``DIR/VOC2012`` or ``DIR/VOCdevkit/VOC2012``: pictures in ``JPEGImages``, palette PNGs in
``SegmentationClass`` (0 = background, 1 to 20, 255 = void along edges) and ``SegmentationObject`` (numbers of objects,
255 alike), lists in ``ImageSets/Segmentation``. With 20 classes, background is ignored too.

Source: development kit of the PASCAL VOC Challenge 2012.
Shapes: H/W pixel, V value in a file.
"""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from clippy_core.evaluation.dense.benchmark import dense_benchmark
from clippy_core.evaluation.dense.dataset import DenseDataset, Example
from clippy_core.evaluation.dense.layout import (
    Layout,
    check_examples,
    check_files,
    choose_classes,
    choose_split,
    find_root,
    read_names,
)
from clippy_core.evaluation.dense.masks import look_up, read_values, table
from clippy_core.evaluation.dense.vocabulary import voc as words

if TYPE_CHECKING:
    import numpy as np

VOID = 255
LAYOUT = Layout(
    "PASCAL VOC 2012",
    (
        "[VOCdevkit/][VOC2012/]JPEGImages/2007_000033.jpg, …",
        "[VOCdevkit/][VOC2012/]SegmentationClass/2007_000033.png, …",
        "[VOCdevkit/][VOC2012/]SegmentationObject/2007_000033.png, … (for JS)",
        "[VOCdevkit/][VOC2012/]ImageSets/Segmentation/val.txt",
    ),
    ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"),
    ("VOC2012", "VOCdevkit/VOC2012"),
)


def read(data: Path, *, classes: int | None = None, split: str | None = None) -> DenseDataset:
    """The data set.

    Args:
        data: Its folder.
        classes: 21 with background (the default) or 20 without.
        split: ``val`` (the default), ``train``, ``trainval`` or ``test``, if its masks are there.

    Raises:
        DataError: It is not in this folder, or a list, picture or mask is missing.
        UsageError: Another number of classes, or another split.
    """
    count = choose_classes(classes, (21, 20), "voc")
    split = choose_split(split, ("val", "train", "trainval", "test"), "voc")
    root = find_root(data, LAYOUT)
    names = read_names(root / "ImageSets" / "Segmentation" / f"{split}.txt")
    examples = check_examples(
        [Example(name, root / "JPEGImages" / f"{name}.jpg", name) for name in names], LAYOUT, root
    )
    check_files([root / "SegmentationClass" / f"{name}.png" for name in names], f"masks of the {split} split")
    objects = root / "SegmentationObject"
    if objects.is_dir():
        check_files([objects / f"{name}.png" for name in names], f"masks of objects of the {split} split")
    first = 21 - count
    table_V = table({value: value - first for value in range(first, 21)}, ignored=(VOID, *range(first)))
    with_background = count == 21
    return DenseDataset(
        f"voc{count}",
        split,
        ("background", *words.NAMES) if with_background else words.NAMES,
        examples,
        partial(_read_mask, folder=root / "SegmentationClass", table_V=table_V),
        partial(_read_objects, folder=objects) if objects.is_dir() else None,
        background=0 if with_background else None,
        background_names=words.BACKGROUND if with_background else (),
        synonyms=words.SYNONYMS,
        notes=() if objects.is_dir() else ("no objects: SegmentationObject is missing",),
    )


def _read_mask(example: Example, *, folder: Path, table_V: "np.ndarray") -> "np.ndarray":
    path = folder / f"{example.annotation}.png"
    return look_up(read_values(path, example), table_V, path)


def _read_objects(example: Example, *, folder: Path) -> "np.ndarray":
    import numpy as np

    values_HW = read_values(folder / f"{example.annotation}.png", example).astype(np.int32)
    return np.where(values_HW == VOID, -1, values_HW)


run = dense_benchmark(read)
