"""ImageNet (ILSVRC2012), 50,000 validation pictures of 1000 classes: zero-shot classification.

Layouts, below DIR:

- a folder a class, ``n01440764/ILSVRC2012_val_00000293.JPEG``, in ``val``, ``ILSVRC/Data/CLS-LOC/val`` or DIR itself;
- all pictures in one folder, ``ILSVRC2012_val_00000001.JPEG``, as they are distributed: in ``val``,
  ``ILSVRC2012_img_val``, ``ILSVRC/Data/CLS-LOC/val`` or DIR itself; with Kaggle's ``LOC_val_solution.csv`` or the
  development kit's ``ILSVRC2012_validation_ground_truth.txt`` (the class of every picture as a number from 1, in the
  kit's order), in DIR or where the kit has it.

All 1000 names are candidates, whatever classes the pictures have.
Source: development kit of ILSVRC2012; Kaggle's *ImageNet Object Localization Challenge*.
"""

import csv
import re
from pathlib import Path

from clippy_core.errors import DataError, UsageError
from clippy_core.evaluation.benchmarks import BenchmarkOptions, Report
from clippy_core.evaluation.layout import entries, folders_in, wrong_folder
from clippy_core.evaluation.vocabulary.imagenet import classes, index_of_number, index_of_wnid
from clippy_core.evaluation.zero_shot.dataset import ClassificationSet, LabelledPicture
from clippy_core.evaluation.zero_shot.report import report
from clippy_core.images import SUFFIXES
from clippy_core.prompts import Label
from clippy_core.segmentation.segmenter import Segmenter

OFFICIAL = 50_000
TREE = (
    "a folder a class, [val/]n01440764/ILSVRC2012_val_00000293.JPEG; or all in one, "
    "[val/]ILSVRC2012_val_00000001.JPEG, with LOC_val_solution.csv or "
    "[ILSVRC2012_devkit_t12/data/]ILSVRC2012_validation_ground_truth.txt"
)
PICTURES = ("val", "ILSVRC2012_img_val", "ILSVRC/Data/CLS-LOC/val", "Data/CLS-LOC/val", "")
ANSWERS = ("", "data", "ILSVRC2012_devkit_t12/data", "ILSVRC2012_devkit_t12", "devkit/data", "ILSVRC/devkit/data")
GROUND_TRUTH, SOLUTION = "ILSVRC2012_validation_ground_truth.txt", "LOC_val_solution.csv"
_WNID = re.compile(r"n\d{8}")
_NUMBERED = re.compile(r"(ILSVRC2012_val_\d{8})\.(?i:jpe?g)")


def read(data: Path, *, split: str | None = None) -> ClassificationSet:
    """The data set.

    Args:
        data: Its folder.
        split: ``val``; there is no other with known classes.

    Raises:
        DataError: It is not in this folder, has a folder that is no class, or a picture's class is not known.
        UsageError: Another split.
    """
    if split not in (None, "val"):
        raise UsageError(f"the split {split} is unknown to benchmark 'imagenet'; accepted: val")
    folders = folders_in(data, PICTURES)
    for folder in folders:
        if any(_WNID.fullmatch(path.name) and path.is_dir() for path in entries(folder)):
            return _dataset(folder, _by_folder(folder), "WNID/*.JPEG")
    for folder in folders:
        flat = [match for path in entries(folder) if (match := _NUMBERED.fullmatch(path.name))]
        if flat:
            return _flat(data, folder, flat)
    missing = "folders called after WordNet ids, or files called ILSVRC2012_val_*.JPEG"
    raise wrong_folder(data, "ImageNet", TREE, missing=missing, looked_at=folders[0] if folders else None)


def _by_folder(folder: Path) -> list[LabelledPicture]:
    found = []
    for path in entries(folder):
        if not _WNID.fullmatch(path.name) or not path.is_dir():
            continue
        if path.name not in index_of_wnid():
            raise DataError(f"{path}: {path.name} is none of the 1000 classes; for other classes use image-folder")
        found += [
            LabelledPicture(picture, index_of_wnid()[path.name])
            for picture in entries(path)
            if picture.suffix.lower() in SUFFIXES and not picture.name.startswith(".")
        ]
    if not found:
        raise DataError(f"{folder}: its folders of classes have no picture; expected: {TREE}")
    return found


def _flat(data: Path, folder: Path, flat: list[re.Match[str]]) -> ClassificationSet:
    """All pictures in one folder, their classes in a list."""
    lists = [place / name for name in (SOLUTION, GROUND_TRUTH) for place in folders_in(data, ANSWERS)]
    path = next((path for path in lists if path.is_file()), None)
    if path is None:
        missing = f"{GROUND_TRUTH} or {SOLUTION}, the classes of the {len(flat):,} pictures"
        raise wrong_folder(data, "ImageNet", TREE, missing=missing)
    truth = _read_solution(path) if path.name == SOLUTION else _read_ground_truth(path)
    unknown = [match[1] for match in flat if match[1] not in truth]
    if unknown:
        raise DataError(f"{path}: no class for {unknown[0]}, nor for {len(unknown) - 1:,} other pictures in {folder}")
    pictures = [LabelledPicture(folder / match[0], truth[match[1]]) for match in flat]
    return _dataset(folder, pictures, f"ILSVRC2012_val_*.JPEG, classes from {path.name}")


def _read_ground_truth(path: Path) -> dict[str, int]:
    """Class index by the stem of the picture's name."""
    lines = _text(path).split()
    found = {}
    for number, line in enumerate(lines, start=1):
        if not line.isdecimal() or int(line) not in index_of_number():
            raise DataError(f"{path}, line {number}: {line!r} is no class; accepted: numbers from 1 to 1000")
        found[f"ILSVRC2012_val_{number:08}"] = index_of_number()[int(line)]
    return found


def _read_solution(path: Path) -> dict[str, int]:
    """The same from Kaggle's list, where boxes follow the class."""
    found = {}
    for number, row in enumerate(csv.DictReader(_text(path).splitlines()), start=2):
        wnid = (row.get("PredictionString") or "").split(" ")[0]
        if not row.get("ImageId") or wnid not in index_of_wnid():
            raise DataError(f"{path}, line {number}: columns ImageId and PredictionString with a WordNet id expected")
        found[row["ImageId"]] = index_of_wnid()[wnid]
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error


def _dataset(root: Path, pictures: list[LabelledPicture], layout: str) -> ClassificationSet:
    labels = tuple(Label(one.name, (one.name,)) for one in classes())
    seen = len({picture.label for picture in pictures})
    notes = []
    if len(pictures) != OFFICIAL:
        notes.append(f"{len(pictures):,} pictures; the official split has {OFFICIAL:,}")
    if seen < len(labels):
        notes.append(f"pictures of {seen} of {len(labels):,} classes")
    return ClassificationSet("imagenet", "val", root, labels, tuple(pictures), layout, tuple(notes))


def run(segmenter: Segmenter, data: Path, options: BenchmarkOptions) -> Report:
    """Top-1 and top-5; raises as :func:`read` and ``zero_shot.report``."""
    return report(segmenter, read(data, split=options.split), options)
