"""ADE20K, scene parsing: 150 classes of things and stuff.

Layout, below DIR or ``DIR/ADEChallengeData2016``: pictures in ``images/validation``, PNGs in
``annotations/validation`` (0 = everything else, which is ignored; 1 to 150). Objects, if they are there, in
``annotations_instance/validation`` of the Places Challenge 2017, whose green channel numbers the objects of 100 of the
classes.

Source: Zhou et al., *Scene Parsing through ADE20K Dataset*, CVPR 2017; the repositories CSAILVision/sceneparsing and
CSAILVision/placeschallenge.
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
    names_of,
    note_count,
)
from clippy_core.evaluation.dense.masks import look_up, read_colours, read_values, table
from clippy_core.evaluation.dense.vocabulary import ade20k as words

if TYPE_CHECKING:
    import numpy as np

CLASSES = 150
FOLDERS = {"val": "validation", "train": "training"}
OFFICIAL = {"val": 2_000, "train": 20_210}


def layout(split: str) -> Layout:
    """How the files lie."""
    folder, start = FOLDERS[split], "[ADEChallengeData2016/]"
    return Layout(
        "ADE20K",
        (
            f"{start}images/{folder}/ADE_{split}_00000001.jpg, …",
            f"{start}annotations/{folder}/ADE_{split}_00000001.png, …",
            f"{start}annotations_instance/{folder}/ADE_{split}_00000001.png, … (for JS)",
        ),
        (f"images/{folder}", f"annotations/{folder}"),
        ("ADEChallengeData2016",),
    )


def read(data: Path, *, classes: int | None = None, split: str | None = None) -> DenseDataset:
    """The data set; it has objects if their folder is there.

    Args:
        data: Its folder.
        classes: 150.
        split: ``val`` (the default) or ``train``.

    Raises:
        DataError: It is not in this folder, or a picture or mask is missing.
        UsageError: Another number of classes, or another split.
    """
    count = choose_classes(classes, (CLASSES,), "ade20k")
    split = choose_split(split, tuple(FOLDERS), "ade20k")
    root = find_root(data, layout(split))
    images, masks, objects = (
        root / kind / FOLDERS[split] for kind in ("images", "annotations", "annotations_instance")
    )
    names = sorted({*names_of([images], ".jpg"), *names_of([masks], ".png")})
    examples = check_examples([Example(name, images / f"{name}.jpg", name) for name in names], layout(split), root)
    check_files([masks / f"{name}.png" for name in names], f"masks of the {split} split")
    if objects.is_dir():
        check_files([objects / f"{name}.png" for name in names], f"masks of objects of the {split} split")
    return DenseDataset(
        f"ade20k{count}",
        split,
        words.NAMES,
        examples,
        partial(_read_mask, folder=masks, table_V=table({value + 1: value for value in range(count)}, ignored=(0,))),
        partial(_read_objects, folder=objects) if objects.is_dir() else None,
        synonyms=words.SYNONYMS,
        notes=note_count(len(examples), OFFICIAL[split])
        + (() if objects.is_dir() else (f"no objects: annotations_instance/{FOLDERS[split]} is missing",)),
    )


def _read_mask(example: Example, *, folder: Path, table_V: "np.ndarray") -> "np.ndarray":
    path = folder / f"{example.annotation}.png"
    return look_up(read_values(path, example), table_V, path)


def _read_objects(example: Example, *, folder: Path) -> "np.ndarray":
    import numpy as np

    return read_colours(folder / f"{example.annotation}.png", example)[..., 1].astype(np.int32)


run = dense_benchmark(read)
