"""What the COCO benchmarks share: where the files lie, and how annotated objects become numbers of pixels.

Shapes: H/W pixel.
"""

import json
import warnings
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clippy_core.errors import DataError
from clippy_core.evaluation.dense.dataset import Example
from clippy_core.evaluation.dense.layout import first_of
from clippy_core.evaluation.dense.masks import table
from clippy_core.evaluation.dense.vocabulary import coco as words

if TYPE_CHECKING:
    import numpy as np

SPLITS = ("val", "train")
OFFICIAL = {"val": 5_000, "train": 118_287}
UNLABELLED = 255
"""Value of pixels of pixel maps that have no class."""


def image_folders(split: str) -> tuple[str, ...]:
    """Where pictures may lie below the root."""
    return (f"images/{split}2017", f"{split}2017")


def map_folders(split: str) -> tuple[str, ...]:
    """Where pixel maps may lie below the root."""
    return tuple(f"{folder}/{split}2017" for folder in ("stuffthingmaps", "stuffthingmaps_trainval2017", "annotations"))


def stuff_table() -> "np.ndarray":
    """Classes, 0 to 170, of the values of the original pixel maps, which are one less than the category's id."""
    numbers = [*words.THINGS, *words.STUFF]
    return table({number - 1: index for index, number in enumerate(numbers)}, ignored=(UNLABELLED,))


def object_table() -> "np.ndarray":
    """Classes, 1 to 80, of the values of the original pixel maps; everything else is background, unlabelled pixels too.

    Source: the conversion that GroupViT and all after it use, ``convert_coco_object.py``.
    """
    return table({number - 1: index for index, number in enumerate(words.THINGS, start=1)}, other=0)


def find_maps(root: Path, split: str, converted: str) -> tuple[Path, str] | None:
    """The folder of the pixel maps and the ending of their names: ``.png``, or ``converted`` if there are only those.

    Args:
        root: The root of the data set.
        split: ``val`` or ``train``.
        converted: The ending that a usual conversion gives, such as ``_labelTrainIds.png``.
    """
    folders = [folder for name in map_folders(split) if (folder := root / name).is_dir()]
    for ending, kept in ((".png", _is_original), (converted, lambda name: name.endswith(converted))):
        for folder in folders:
            if any(kept(path.name) for path in folder.iterdir()):
                return folder, ending
    return None


def _is_original(name: str) -> bool:
    return name.removesuffix(".png").isdecimal() and name.endswith(".png")


def original_names(folder: Path) -> set[str]:
    """Names of the pixel maps as they were published, which are the numbers of their pictures."""
    return {path.stem for path in folder.iterdir() if _is_original(path.name)}


def read_json(path: Path, needs: Sequence[str]) -> dict[str, Any]:
    """A COCO annotation file.

    Raises:
        DataError: It cannot be read, is not JSON, or lacks one of the lists.
    """
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise DataError(f"{path}: not JSON, or only a part of it ({error})") from error
    for name in needs:
        if not isinstance(document, dict) or not isinstance(document.get(name), list):
            raise DataError(f"{path}: no list {name!r} in it, which a COCO annotation file has")
    return document


def instances_file(root: Path, split: str) -> Path | None:
    """The file of annotated objects, if it is there."""
    return first_of(root, (f"annotations/instances_{split}2017.json", f"instances_{split}2017.json"))


def read_instances(path: Path) -> tuple[list[dict[str, Any]], dict[int, tuple[dict[str, Any], ...]]]:
    """The pictures of an annotation file, and the objects of each by its id.

    Raises:
        DataError: As :func:`read_json`; also a field is missing, or a category is none of the 80.
    """
    document = read_json(path, ("images", "annotations"))
    by_image: dict[int, list[dict[str, Any]]] = defaultdict(list)
    try:
        for item in document["annotations"]:
            if item["category_id"] not in words.THINGS:
                raise DataError(f"{path}: object {item.get('id')} has category {item['category_id']}, none of the 80")
            kept = {name: item[name] for name in ("segmentation", "category_id", "area")}
            by_image[item["image_id"]].append(kept | {"iscrowd": item.get("iscrowd", 0)})
        images = [
            {name: image[name] for name in ("id", "file_name", "height", "width")} for image in document["images"]
        ]
    except (KeyError, TypeError) as error:
        raise DataError(f"{path}: not the format of COCO objects; missing: {error}") from error
    return images, {image: tuple(items) for image, items in by_image.items()}


def paint(
    items: Sequence[Mapping[str, Any]],
    size: tuple[int, int],
    value: Callable[[int, Mapping[str, Any]], int],
    name: str,
) -> "np.ndarray":
    """Objects painted one over the other, ``int32`` H×W, 0 where there is none.

    Crowds come first, then objects from large to small, so that what lies on something is seen.

    Args:
        items: Objects as COCO annotates them.
        size: Height and width.
        value: What an object's pixels get, from its index and the object.
        name: Name of the picture, for messages.

    Raises:
        DataError: An outline that cannot be understood.
    """
    import numpy as np

    painted_HW = np.zeros(size, np.int32)
    order = sorted(range(len(items)), key=lambda index: (not items[index]["iscrowd"], -items[index]["area"]))
    for index in order:
        try:
            painted_HW[_inside(items[index]["segmentation"], size)] = value(index, items[index])
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise DataError(f"picture {name}: the outline of object {index} cannot be understood ({error})") from error
    return painted_HW


def _inside(outline: Any, size: tuple[int, int]) -> "np.ndarray":
    """Which pixels an outline has, H×W: polygons, or run lengths as numbers or packed."""
    from pycocotools import mask as coco_mask

    packed: Any = outline
    if isinstance(outline, list):
        polygons: Any = [list(map(float, part)) for part in outline]
        packed = coco_mask.merge(coco_mask.frPyObjects(polygons, *size))
    elif isinstance(outline["counts"], list):
        packed = coco_mask.frPyObjects(outline, *size)
    with warnings.catch_warnings():
        # pycocotools 2.0.11 decodes into an array type that does not know numpy 2's keyword yet.
        warnings.simplefilter("ignore", DeprecationWarning)
        return coco_mask.decode(packed).astype(bool)


def paint_numbers(items: Sequence[Mapping[str, Any]], size: tuple[int, int], name: str) -> "np.ndarray":
    """Objects numbered 1, 2, … in their order, crowds −1."""
    numbers, count = [], 0
    for item in items:
        count += not item["iscrowd"]
        numbers.append(-1 if item["iscrowd"] else count)
    return paint(items, size, lambda index, _: numbers[index], name)


def example_of(image: Mapping[str, Any], folder: Path, annotation: Any) -> Example:
    """The example of an entry in the list of pictures."""
    name = str(image["file_name"])
    return Example(Path(name).stem, folder / name, annotation)
