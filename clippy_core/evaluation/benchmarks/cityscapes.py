"""Cityscapes with fine annotations: the 19 classes of its own evaluation, or all 27 that are not void.

Layout below DIR: pictures ``leftImg8bit/val/CITY/*_leftImg8bit.png`` and, under ``gtFine/val/CITY`` with the same
beginning, ``*_gtFine_labelIds.png`` (ids of all labels; 0 to 6 are void and ignored), or for 19 classes
``*_gtFine_labelTrainIds.png`` (0 to 18 and 255). Objects are in ``*_gtFine_instanceIds.png``: 1000 · id + number. An id
alone is a group whose single objects nobody told apart; groups and labels that are no class are ignored.

Source: Cordts et al., *The Cityscapes Dataset for Semantic Urban Scene Understanding*, CVPR 2016; cityscapesScripts.
Shapes: H/W pixel, V value in a file.
"""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from clippy_core.errors import DataError
from clippy_core.evaluation.dense.benchmark import dense_benchmark
from clippy_core.evaluation.dense.dataset import DenseDataset, Example
from clippy_core.evaluation.dense.layout import (
    Layout,
    check_examples,
    check_files,
    choose_classes,
    choose_split,
    find_root,
    note_count,
)
from clippy_core.evaluation.dense.masks import look_up, numbered_from_one, read_values, table
from clippy_core.evaluation.dense.vocabulary import cityscapes as words

if TYPE_CHECKING:
    import numpy as np

PICTURE, IDS, TRAIN_IDS, INSTANCES = (
    "_leftImg8bit.png",
    "_gtFine_labelIds.png",
    "_gtFine_labelTrainIds.png",
    "_gtFine_instanceIds.png",
)
OFFICIAL = {"val": 500, "train": 2_975}
PER_CLASS = 1000


def layout(split: str) -> Layout:
    """How the files lie."""
    start = f"gtFine/{split}/frankfurt/frankfurt_000000_000294"
    return Layout(
        "Cityscapes",
        (
            f"leftImg8bit/{split}/frankfurt/frankfurt_000000_000294{PICTURE}, …",
            f"{start}{IDS}, … (or {TRAIN_IDS} for 19 classes)",
            f"{start}{INSTANCES}, … (for JS)",
        ),
        (f"leftImg8bit/{split}", f"gtFine/{split}"),
        ("cityscapes",),
    )


def read(data: Path, *, classes: int | None = None, split: str | None = None) -> DenseDataset:
    """The data set; it has objects if their files are there.

    Args:
        data: Its folder.
        classes: 19 (the default) or 27.
        split: ``val`` (the default) or ``train``.

    Raises:
        DataError: It is not in this folder, a picture or mask is missing, or it is the test split, whose published
            masks are void.
        UsageError: Another number of classes, or another split.
    """
    count = choose_classes(classes, (19, 27), "cityscapes")
    if split == "test":
        raise DataError(f"{data}: the masks of the test split of Cityscapes are not public; use val or train")
    split = choose_split(split, tuple(OFFICIAL), "cityscapes")
    root = find_root(data, layout(split))
    images, fine = root / "leftImg8bit" / split, root / "gtFine" / split
    ending = IDS if count == 27 or any(fine.glob(f"*/*{IDS}")) else TRAIN_IDS
    names = sorted({*_names(images, PICTURE), *_names(fine, ending)})
    examples = check_examples(
        [Example(Path(name).name, images / f"{name}{PICTURE}", fine / name) for name in names], layout(split), root
    )
    check_files([_file(example, ending) for example in examples], f"masks of the {split} split")
    objects = any(fine.glob(f"*/*{INSTANCES}"))
    if objects:
        check_files([_file(example, INSTANCES) for example in examples], f"masks of objects of the {split} split")
    ids = words.IDS[count]
    if ending == IDS:
        void = set(range(max(words.LABELS) + 1)) - set(ids)
        table_V = table({number: index for index, number in enumerate(ids)}, ignored=(*void, 255))
    else:
        table_V = table({value: value for value in range(count)}, ignored=(255,))
    return DenseDataset(
        f"cityscapes{count}",
        split,
        words.names(count),
        examples,
        partial(_read_mask, ending=ending, table_V=table_V),
        partial(_read_objects, ids=ids) if objects else None,
        synonyms={name: others for name, others in words.SYNONYMS.items() if name in words.names(count)},
        notes=note_count(len(examples), OFFICIAL[split])
        + (() if objects else (f"no objects: there are no files *{INSTANCES}",)),
    )


def _names(folder: Path, ending: str) -> set[str]:
    """Cities and names of files, without the ending."""
    return {path.relative_to(folder).as_posix().removesuffix(ending) for path in folder.glob(f"*/*{ending}")}


def _file(example: Example, ending: str) -> Path:
    return example.annotation.with_name(example.annotation.name + ending)


def _read_mask(example: Example, *, ending: str, table_V: "np.ndarray") -> "np.ndarray":
    path = _file(example, ending)
    return look_up(read_values(path, example), table_V, path)


def _read_objects(example: Example, *, ids: tuple[int, ...]) -> "np.ndarray":
    import numpy as np

    values_HW = read_values(_file(example, INSTANCES), example).astype(np.int32)
    single_HW = values_HW >= PER_CLASS
    label_HW = np.where(single_HW, values_HW // PER_CLASS, values_HW)
    counted_HW = np.isin(label_HW, ids)
    objects_HW = numbered_from_one(values_HW, single_HW & counted_HW)
    objects_HW[~counted_HW | (~single_HW & np.isin(label_HW, words.WITH_INSTANCES))] = -1
    return objects_HW


run = dense_benchmark(read)
