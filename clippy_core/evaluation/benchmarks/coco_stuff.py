"""COCO-Stuff: 80 things and 91 kinds of stuff, a class for almost every pixel of COCO 2017.

Layout below DIR: pictures in ``images/val2017`` or ``val2017``; pixel maps in ``annotations/val2017`` or
``stuffthingmaps/val2017``. Those are the published ones (values 0 to 181 are ids less one, of which eleven were never
used; 255 = unlabelled) or, where they are missing, those that MMSegmentation converts (``*_labelTrainIds.png``, 0 to
170 and 255). Unlabelled pixels are ignored.

Source: Caesar et al., *COCO-Stuff: Thing and Stuff Classes in Context*, CVPR 2018.
Shapes: H/W pixel, V value in a file.
"""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from clippy_core.evaluation.dense import coco
from clippy_core.evaluation.dense.benchmark import dense_benchmark
from clippy_core.evaluation.dense.dataset import DenseDataset, Example
from clippy_core.evaluation.dense.layout import (
    Layout,
    check_examples,
    check_files,
    choose_classes,
    choose_split,
    find_root,
    first_of,
    names_of,
    note_count,
)
from clippy_core.evaluation.dense.masks import look_up, read_values, table
from clippy_core.evaluation.dense.vocabulary import coco as words

if TYPE_CHECKING:
    import numpy as np

CLASSES = 171
CONVERTED = "_labelTrainIds.png"


def layout(split: str) -> Layout:
    """How the files lie."""
    return Layout(
        "COCO-Stuff",
        (
            f"[images/]{split}2017/000000000139.jpg, …",
            f"annotations/{split}2017/000000000139.png, … (or in stuffthingmaps/{split}2017,",
            f"or 000000000139{CONVERTED}, … as MMSegmentation converts them)",
        ),
        ("|".join(coco.image_folders(split)), "|".join(coco.map_folders(split))),
        ("coco", "coco_stuff164k"),
    )


def read(data: Path, *, classes: int | None = None, split: str | None = None) -> DenseDataset:
    """The data set, which has no objects.

    Args:
        data: Its folder.
        classes: 171.
        split: ``val`` (the default) or ``train``.

    Raises:
        DataError: It is not in this folder, or a picture or mask is missing.
        UsageError: Another number of classes, or another split.
    """
    count = choose_classes(classes, (CLASSES,), "coco-stuff")
    split = choose_split(split, coco.SPLITS, "coco-stuff")
    expected = layout(split)
    root = find_root(data, expected)
    images = first_of(root, coco.image_folders(split)) or root
    maps, ending = coco.find_maps(root, split, CONVERTED) or (root / coco.map_folders(split)[-1], ".png")
    original = ending == ".png"
    found = coco.original_names(maps) if original else names_of([maps], ending)
    names = sorted({*names_of([images], ".jpg"), *found})
    examples = check_examples(
        [Example(name, images / f"{name}.jpg", maps / f"{name}{ending}") for name in names], expected, root
    )
    check_files([example.annotation for example in examples], f"masks of the {split} split")
    things_and_stuff = (*words.THINGS.values(), *words.STUFF.values())
    table_V = coco.stuff_table() if original else table({value: value for value in range(count)}, ignored=(255,))
    return DenseDataset(
        f"coco-stuff{count}",
        split,
        tuple(map(words.name_in_prompt, things_and_stuff)),
        examples,
        partial(_read_mask, table_V=table_V),
        synonyms=words.SYNONYMS,
        notes=note_count(len(examples), coco.OFFICIAL[split]),
    )


def _read_mask(example: Example, *, table_V: "np.ndarray") -> "np.ndarray":
    return look_up(read_values(example.annotation, example), table_V, example.annotation)


run = dense_benchmark(read)
