"""Any folder of pictures with masks and a list of labels.

Layout below DIR, and with a split below the folder of its name in each:

- ``images``: pictures, in folders or not;
- ``masks``: the mask of ``images/a/b.jpg`` is ``masks/a/b.png``, a PNG with the index of the label at every pixel, as a
  palette, 8-bit or 16-bit grey; the largest value of 8 or 16 bits is ignored. The label maps of ``clippy segment``,
  ``masks/a/b.labels.png``, are such files;
- ``labels.txt``: one label a line, synonyms after ``|``. A label called *background* is a class that stands for none of
  the others, its synonyms what it may be asked for by;
- ``instances`` (optional): PNGs alike, with the number of the object at every pixel; 0 for none.

A picture without a mask, or a mask without a picture, is left out and noted. With more than 255 labels masks are
``uint16``, and ignored pixels have the value 65,535.

Shapes: H/W pixel.
"""

from collections.abc import Container
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from clippy_core.errors import DataError, UsageError
from clippy_core.evaluation.dense.benchmark import dense_benchmark
from clippy_core.evaluation.dense.dataset import DenseDataset, Example
from clippy_core.evaluation.dense.layout import Layout, check_examples, check_files, find_root
from clippy_core.evaluation.dense.masks import ignored_value, read_values
from clippy_core.images import SUFFIXES
from clippy_core.prompts import read_labels

if TYPE_CHECKING:
    import numpy as np

BACKGROUND = "background"
LABEL_MAP = ".labels"
SHOWN = 3


def layout(split: str | None) -> Layout:
    """How the files lie."""
    part = f"/{split}" if split else ""
    return Layout(
        "a labelled folder",
        (
            f"images{part}/NAME.jpg, …",
            f"masks{part}/NAME.png, … (index of the label at every pixel)",
            "labels.txt (one label a line)",
            f"instances{part}/NAME.png, … (for JS)",
        ),
        (f"images{part}", f"masks{part}", "labels.txt"),
    )


def read(data: Path, *, classes: int | None = None, split: str | None = None) -> DenseDataset:
    """The data set; it has objects if there is a folder of instances.

    Args:
        data: The folder.
        classes: How many labels there have to be; None for as many as there are.
        split: Name of a folder in ``images``, ``masks`` and ``instances``; None for all that is in them.

    Raises:
        DataError: The folder is laid out otherwise, has no picture with a mask, or a mask of objects is missing.
        UsageError: Labels that cannot be understood, or another number of them.
    """
    root = find_root(data, layout(split))
    labels = read_labels(root / "labels.txt")
    if classes not in (None, len(labels)):
        raise UsageError(f"{classes} classes were asked for, but {root / 'labels.txt'} has {len(labels)} labels")
    images, masks, objects = (root / kind / (split or "") for kind in ("images", "masks", "instances"))
    pictures, masks_by_name = _by_name(images, SUFFIXES), _by_name(masks, {".png"}, LABEL_MAP)
    names = sorted(pictures.keys() & masks_by_name.keys())
    notes = _missing("without a mask", pictures, names) + _missing("masks without a picture", masks_by_name, names)
    examples = check_examples(
        [Example(name, pictures[name], masks_by_name[name]) for name in names], layout(split), root
    )
    if objects.is_dir():
        check_files([objects / f"{name}.png" for name in names], "masks of objects")
    background = next((index for index, label in enumerate(labels) if label.name.casefold() == BACKGROUND), None)
    return DenseDataset(
        "folder",
        split or "all",
        tuple(label.name for label in labels),
        examples,
        partial(_read_mask, count=len(labels)),
        partial(_read_objects, folder=objects) if objects.is_dir() else None,
        background=background,
        background_names=labels[background].words[1:] if background is not None else (),
        synonyms={
            label.name: label.words[1:]
            for index, label in enumerate(labels)
            if len(label.words) > 1 and index != background
        },
        notes=notes,
    )


def _by_name(folder: Path, suffixes: Container[str], ending: str = "") -> dict[str, Path]:
    """Files by their path in the folder without the suffix, and without ``ending`` before it.

    Raises:
        DataError: Two files differ in the suffix only.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in suffixes or path.name.startswith(".") or not path.is_file():
            continue
        name = path.relative_to(folder).with_suffix("").as_posix().removesuffix(ending)
        if name in found:
            raise DataError(f"{path}: {found[name].name} has the same name, so both would have one mask")
        found[name] = path
    return found


def _missing(what: str, found: dict[str, Path], names: list[str]) -> tuple[str, ...]:
    left_out = sorted(found.keys() - set(names))
    if not left_out:
        return ()
    listed = ", ".join(left_out[:SHOWN]) + (", …" if len(left_out) > SHOWN else "")
    return (f"{len(left_out):,} left out, {what}: {listed}",)


def _read_mask(example: Example, *, count: int) -> "np.ndarray":
    import numpy as np

    values_HW = read_values(example.annotation, example)
    ignored_HW = values_HW == np.iinfo(values_HW.dtype).max
    wrong_HW = (values_HW >= count) & ~ignored_HW
    if wrong_HW.any():
        raise DataError(
            f"{example.annotation}: a pixel has the value {values_HW[wrong_HW][0]}; accepted: 0 to {count - 1}, and "
            f"{np.iinfo(values_HW.dtype).max} for pixels that are not counted"
        )
    ignored = ignored_value(count)
    mask_HW = values_HW.astype(np.uint8 if ignored < 256 else np.uint16)
    mask_HW[ignored_HW] = ignored
    return mask_HW


def _read_objects(example: Example, *, folder: Path) -> "np.ndarray":
    import numpy as np

    values_HW = read_values(folder / f"{example.name}.png", example)
    return np.where(values_HW == np.iinfo(values_HW.dtype).max, -1, values_HW.astype(np.int32))


run = dense_benchmark(read)
