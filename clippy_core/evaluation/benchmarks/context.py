"""PASCAL Context: 59 classes of things and stuff on the pictures of VOC 2010, with or without background.

Layout, below DIR, ``DIR/VOC2010`` or ``DIR/VOCdevkit/VOC2010``: pictures in ``JPEGImages`` and one of

- ``SegmentationClassContext`` with PNGs as MMSegmentation converts them (0 = background, 1 to 59 in the order of the
  alphabet) and ``ImageSets/SegmentationContext/val.txt``;
- ``trainval`` (or next to the folder of VOC) with the original MATLAB files of 459 classes, whose ``labels.txt`` is
  checked if it is there, and VOC's own ``ImageSets/Main/val.txt``. This takes SciPy.

The other 400 classes are background; with 59 classes background is ignored.

Source: Mottaghi et al., *The Role of Context for Object Detection and Semantic Segmentation in the Wild*, CVPR 2014.
Shapes: H/W pixel, V value in a file.
"""

import importlib.util
import zlib
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from clippy_core.errors import DataError, DeviceError
from clippy_core.evaluation.dense.benchmark import dense_benchmark
from clippy_core.evaluation.dense.dataset import IGNORE, DenseDataset, Example
from clippy_core.evaluation.dense.layout import (
    Layout,
    check_examples,
    check_files,
    choose_classes,
    choose_split,
    find_root,
    first_of,
    read_names,
)
from clippy_core.evaluation.dense.masks import aligned, look_up, read_values, table
from clippy_core.evaluation.dense.vocabulary import context as words

if TYPE_CHECKING:
    import numpy as np

CONVERTED = "SegmentationClassContext"
LAYOUT = Layout(
    "PASCAL Context",
    (
        "[VOCdevkit/][VOC2010/]JPEGImages/2008_000002.jpg, …",
        "[VOCdevkit/][VOC2010/]SegmentationClassContext/2008_000002.png, …",
        "[VOCdevkit/][VOC2010/]ImageSets/SegmentationContext/val.txt",
        "or, with SciPy: trainval/2008_000002.mat, … and ImageSets/Main/val.txt",
    ),
    (
        "JPEGImages",
        f"{CONVERTED}|trainval|../trainval|../../trainval",
        "ImageSets/SegmentationContext|ImageSets/Main",
    ),
    ("VOC2010", "VOCdevkit/VOC2010"),
)


def read(data: Path, *, classes: int | None = None, split: str | None = None) -> DenseDataset:
    """The data set, which has no objects.

    Args:
        data: Its folder.
        classes: 60 with background (the default) or 59 without.
        split: ``val`` (the default) or ``train``.

    Raises:
        DataError: It is not in this folder, or a list, picture or mask is missing.
        DeviceError: There are only MATLAB files, and SciPy is not installed.
        UsageError: Another number of classes, or another split.
    """
    count = choose_classes(classes, (60, 59), "context")
    split = choose_split(split, ("val", "train"), "context")
    root = find_root(data, LAYOUT)
    masks = first_of(root, (CONVERTED, "trainval", "../trainval", "../../trainval")) or root
    converted = masks.name == CONVERTED
    if not converted:
        _check_scipy(masks)
        _check_labels(masks)
    lists = first_of(root / "ImageSets", (f"{kept}/{split}.txt" for kept in ("SegmentationContext", "Main")))
    names = read_names(lists or root / "ImageSets" / "SegmentationContext" / f"{split}.txt")
    examples = check_examples(
        [
            Example(name, root / "JPEGImages" / f"{name}.jpg", masks / f"{name}.{'png' if converted else 'mat'}")
            for name in names
        ],
        LAYOUT,
        root,
    )
    check_files([example.annotation for example in examples], f"masks of the {split} split")
    with_background = count == 60
    first, other = (1, 0) if with_background else (0, IGNORE)
    if converted:
        table_V = table({0: other} | {value: value - 1 + first for value in range(1, 60)}, ignored=(255,))
    else:
        numbers = {number: index + first for index, number in enumerate(words.NUMBERS)}
        table_V = table(numbers, other=other, size=words.ALL + 1)
    return DenseDataset(
        f"context{count}",
        split,
        ("background", *words.NAMES) if with_background else words.NAMES,
        examples,
        partial(_read_converted if converted else _read_matlab, table_V=table_V),
        background=0 if with_background else None,
        background_names=words.BACKGROUND if with_background else (),
        synonyms=words.SYNONYMS,
    )


def _read_converted(example: Example, *, table_V: "np.ndarray") -> "np.ndarray":
    return look_up(read_values(example.annotation, example), table_V, example.annotation)


def _read_matlab(example: Example, *, table_V: "np.ndarray") -> "np.ndarray":
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    path = example.annotation
    try:
        values_HW = loadmat(path, variable_names=["LabelMap"])["LabelMap"]
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except KeyError as error:
        raise DataError(f"{path}: no variable LabelMap in it, which the files of PASCAL Context have") from error
    except (MatReadError, OSError, EOFError, ValueError, TypeError, NotImplementedError, zlib.error) as error:
        raise DataError(f"{path}: damaged or not a MATLAB file ({error})") from error
    return look_up(aligned(values_HW, path, example), table_V, path)


def _check_scipy(masks: Path) -> None:
    if importlib.util.find_spec("scipy") is None:
        raise DeviceError(
            f"{masks}: MATLAB files are read with SciPy, which is not installed; run pip install scipy, "
            f"or convert them to PNGs in {CONVERTED}"
        )


def _check_labels(masks: Path) -> None:
    """Make sure that the list that comes with the files has the classes where they are expected."""
    path = first_of(masks, ("labels.txt", "../labels.txt"))
    if path is None:
        return
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    found = {number.strip(): name.replace(" ", "") for number, colon, name in (line.partition(":") for line in lines)}
    for number, name in words.NUMBERS.items():
        if found.get(str(number)) != name:
            raise DataError(f"{path}: class {number} is {found.get(str(number))!r}; {name!r} is expected")


run = dense_benchmark(read)
