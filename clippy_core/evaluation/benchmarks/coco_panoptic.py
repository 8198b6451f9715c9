"""COCO panoptic: 80 things and 53 kinds of stuff on COCO 2017, every pixel part of one segment.

Layout below DIR: pictures in ``images/val2017`` or ``val2017``, ``annotations/panoptic_val2017.json`` and its PNGs in
``annotations/panoptic_val2017`` or ``panoptic_val2017``. A pixel's segment is R + 256·G + 65536·B; 0 is unlabelled and
ignored. Objects are the segments of things; crowds have their class in masks, as objects they are ignored.

Source: Kirillov et al., *Panoptic Segmentation*, CVPR 2019; format of the panopticapi repository.
Shapes: H/W pixel, S segment.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from clippy_core.errors import DataError
from clippy_core.evaluation.dense import coco
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
    note_count,
)
from clippy_core.evaluation.dense.masks import read_colours
from clippy_core.evaluation.dense.vocabulary import coco as words

if TYPE_CHECKING:
    import numpy as np

CLASSES = 133
VALUES = {number: index for index, number in enumerate((*words.THINGS, *words.PANOPTIC_STUFF))}
"""Classes by category id."""


def layout(split: str) -> Layout:
    """How the files lie."""
    return Layout(
        "COCO panoptic",
        (
            f"[images/]{split}2017/000000000139.jpg, …",
            f"[annotations/]panoptic_{split}2017.json",
            f"[annotations/]panoptic_{split}2017/000000000139.png, …",
        ),
        (
            "|".join(coco.image_folders(split)),
            f"annotations/panoptic_{split}2017.json|panoptic_{split}2017.json",
            f"annotations/panoptic_{split}2017|panoptic_{split}2017",
        ),
        ("coco",),
    )


def read(data: Path, *, classes: int | None = None, split: str | None = None) -> DenseDataset:
    """The data set.

    Args:
        data: Its folder.
        classes: 133.
        split: ``val`` (the default) or ``train``.

    Raises:
        DataError: It is not in this folder, the JSON file is not what it should be, or a picture or mask is missing.
        UsageError: Another number of classes, or another split.
    """
    count = choose_classes(classes, (CLASSES,), "coco-panoptic")
    split = choose_split(split, coco.SPLITS, "coco-panoptic")
    expected = layout(split)
    root = find_root(data, expected)
    images = first_of(root, coco.image_folders(split)) or root
    index = first_of(root, (f"annotations/panoptic_{split}2017.json", f"panoptic_{split}2017.json")) or root
    masks = first_of(root, (f"annotations/panoptic_{split}2017", f"panoptic_{split}2017")) or root
    examples = check_examples(_examples(index, images, masks), expected, root)
    check_files([example.annotation[0] for example in examples], f"masks of the {split} split")
    things_and_stuff = (*words.THINGS.values(), *words.PANOPTIC_STUFF.values())
    return DenseDataset(
        f"coco-panoptic{count}",
        split,
        tuple(map(words.name_in_prompt, things_and_stuff)),
        examples,
        _read_mask,
        _read_objects,
        synonyms=words.SYNONYMS,
        notes=note_count(len(examples), coco.OFFICIAL[split]),
    )


def _examples(index: Path, images: Path, masks: Path) -> list[Example]:
    """Pictures with their PNG and segments, each an id, a class, and whether it is an object, a crowd or stuff."""
    document = coco.read_json(index, ("images", "annotations"))
    examples = []
    try:
        by_id = {image["id"]: image for image in document["images"]}
        for item in document["annotations"]:
            segments = tuple(_segment(segment) for segment in item["segments_info"])
            examples.append(coco.example_of(by_id[item["image_id"]], images, (masks / item["file_name"], segments)))
    except (KeyError, TypeError) as error:
        raise DataError(f"{index}: not the format of COCO panoptic; missing: {error}") from error
    return examples


def _segment(segment: dict[str, Any]) -> tuple[int, int, int]:
    """Id, class, and 1 for an object, −1 for a crowd, 0 for stuff."""
    category = segment["category_id"]
    kind = (-1 if segment.get("iscrowd", 0) else 1) if category in words.THINGS else 0
    return segment["id"], VALUES[category], kind


def _read_mask(example: Example) -> "np.ndarray":
    import numpy as np

    _, segments = example.annotation
    classes_S = np.array([IGNORE, *(value for _, value, _ in segments)], np.uint8)
    return classes_S[_read_segments(example)]


def _read_objects(example: Example) -> "np.ndarray":
    import numpy as np

    _, segments = example.annotation
    kinds_S = np.array([-1, *(kind for _, _, kind in segments)], np.int32)
    numbers_S = np.where(kinds_S > 0, np.cumsum(kinds_S > 0), kinds_S).astype(np.int32)
    return numbers_S[_read_segments(example)]


def _read_segments(example: Example) -> "np.ndarray":
    """The segment of every pixel as its place on the list, from 1, H×W; 0 for unlabelled.

    Raises:
        DataError: A segment that is not on the list.
    """
    import numpy as np

    path, segments = example.annotation
    ids_HW = read_colours(path, example).astype(np.int64) @ np.array([1, 256, 65536])
    ids_S = np.array([0, *(number for number, _, _ in segments)], np.int64)
    order_S = np.argsort(ids_S)
    places_HW = np.searchsorted(ids_S, ids_HW, sorter=order_S).clip(max=len(ids_S) - 1)
    found_HW = order_S[places_HW]
    wrong_HW = ids_S[found_HW] != ids_HW
    if wrong_HW.any():
        raise DataError(f"{path}: segment {ids_HW[wrong_HW][0]} is not among those listed for picture {example.name}")
    return found_HW


run = dense_benchmark(read)
