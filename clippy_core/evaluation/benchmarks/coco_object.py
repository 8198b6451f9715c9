"""COCO-Object: the 80 kinds of things of COCO 2017 and a background of everything else.

Layout below DIR: pictures in ``images/val2017`` or ``val2017``, and what there is of

- the pixel maps of COCO-Stuff in ``annotations/val2017`` or ``stuffthingmaps/val2017``, from which the usual protocol
  takes its masks: things are 1 to 80, stuff and unlabelled pixels 0; or the files that protocol's conversion writes,
  ``*_instanceTrainIds.png``;
- ``annotations/instances_val2017.json``, which gives the objects, and without pixel maps the masks too.

No pixel of a mask is ignored. Crowds have their class in masks; as objects they are ignored.

Source: Xu et al., *GroupViT: Semantic Segmentation Emerges from Text Supervision*, CVPR 2022, for the protocol.
Shapes: H/W pixel, V value in a file.
"""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clippy_core.errors import DataError
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
from clippy_core.evaluation.dense.masks import aligned, look_up, read_values, table
from clippy_core.evaluation.dense.vocabulary import coco as words

if TYPE_CHECKING:
    import numpy as np

CLASSES = 81
CONVERTED = "_instanceTrainIds.png"
VALUES = {number: index for index, number in enumerate(words.THINGS, start=1)}
"""Classes by category id."""


def layout(split: str) -> Layout:
    """How the files lie."""
    return Layout(
        "COCO-Object",
        (
            f"[images/]{split}2017/000000000139.jpg, …",
            f"annotations/instances_{split}2017.json",
            f"annotations/{split}2017/000000000139.png, … (or in stuffthingmaps/{split}2017, or named",
            f"000000000139{CONVERTED}); one of the two is enough",
        ),
        (
            "|".join(coco.image_folders(split)),
            "|".join((f"annotations/instances_{split}2017.json", *coco.map_folders(split))),
        ),
        ("coco", "coco_object"),
    )


def read(data: Path, *, classes: int | None = None, split: str | None = None) -> DenseDataset:
    """The data set; it has objects if the JSON file is there.

    Args:
        data: Its folder.
        classes: 81, with background.
        split: ``val`` (the default) or ``train``.

    Raises:
        DataError: It is not in this folder, or a picture, mask or annotation is missing.
        UsageError: Another number of classes, or another split.
    """
    count = choose_classes(classes, (CLASSES,), "coco-object")
    split = choose_split(split, coco.SPLITS, "coco-object")
    expected = layout(split)
    root = find_root(data, expected)
    images = first_of(root, coco.image_folders(split)) or root
    maps, instances = coco.find_maps(root, split, CONVERTED), coco.instances_file(root, split)
    if maps is None and instances is None:
        raise DataError(f"{root}: neither pixel maps nor a file of objects; expected: {'; '.join(expected.tree)}")
    examples = check_examples(_examples(images, maps, instances), expected, root)
    notes = note_count(len(examples), coco.OFFICIAL[split])
    if maps is None:
        read_mask = _paint_mask
        notes += ("masks are painted from outlines, as there are no pixel maps",)
    else:
        check_files([example.annotation[0] for example in examples], f"masks of the {split} split")
        converted_V = table({value: value for value in range(count)})
        read_mask = partial(_read_mask, table_V=coco.object_table() if maps[1] == ".png" else converted_V)
    return DenseDataset(
        f"coco-object{count}",
        split,
        ("background", *map(words.name_in_prompt, words.THINGS.values())),
        examples,
        read_mask,
        _paint_objects if instances else None,
        background=0,
        background_names=words.BACKGROUND,
        synonyms=words.SYNONYMS,
        notes=notes + (() if instances else (f"no objects: annotations/instances_{split}2017.json is missing",)),
    )


def _examples(images: Path, maps: tuple[Path, str] | None, instances: Path | None) -> list[Example]:
    """Pictures with their pixel map, size, and objects, each of which may be None; in the order of the JSON file."""
    if instances is not None:
        listed, objects = coco.read_instances(instances)
    else:
        folder, ending = maps or (images, ".png")
        found = coco.original_names(folder) if ending == ".png" else names_of([folder], ending)
        names = sorted({*names_of([images], ".jpg"), *found})
        listed, objects = [{"file_name": f"{name}.jpg", "id": 0} for name in names], {}
    examples = []
    for image in listed:
        path = maps[0] / (Path(image["file_name"]).stem + maps[1]) if maps else None
        size = (image["height"], image["width"]) if instances else None
        examples.append(coco.example_of(image, images, (path, size, objects.get(image["id"], ()))))
    return examples


def _read_mask(example: Example, *, table_V: "np.ndarray") -> "np.ndarray":
    path = example.annotation[0]
    return look_up(read_values(path, example), table_V, path)


def _paint_mask(example: Example) -> "np.ndarray":
    import numpy as np

    _, size, items = example.annotation
    painted_HW = coco.paint(items, size, _class_of, example.name)
    return aligned(painted_HW.astype(np.uint8), f"{example.name} in the file of objects", example)


def _class_of(_: int, item: Any) -> int:
    return VALUES[item["category_id"]]


def _paint_objects(example: Example) -> "np.ndarray":
    _, size, items = example.annotation
    return aligned(coco.paint_numbers(items, size, example.name), f"{example.name} in the file of objects", example)


run = dense_benchmark(read)
