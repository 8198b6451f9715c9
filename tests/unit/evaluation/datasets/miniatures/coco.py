"""COCO: stuff, objects, panoptic. Shapes: H/W pixel, M pixel of a column after column, N number of a label."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .drawing import SIZES, Truth, draw, save_grey, save_image, save_picture, save_text

COCO_IDS = (139, 285, 632, 581781)
COCO_UNUSED = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91)
COCO_THINGS = [number for number in range(1, 91) if number not in COCO_UNUSED]
COCO_STUFF = list(range(92, 183))
PANOPTIC_STUFF = [
    *(92, 93, 95, 100, 107, 109, 112, 118, 119, 122, 125, 128, 130, 133, 138, 141, 144, 145, 147, 148, 149, 151, 154),
    *(155, 156, 159, 161, 166, 168, 171, 175, 176, 177, 178, 180, 181, *range(184, 201)),
]


def coco_stuff(folder: Path, *, seed: int, kind: str = "raw") -> Truth:
    """``images/val2017`` and ``annotations/val2017``, with ``kind`` ``raw`` (0…181) or ``train-ids`` (0…170)."""
    raw_N = np.array([number - 1 for number in [*COCO_THINGS, *COCO_STUFF]] + [255] * (256 - 171), np.uint8)
    rng, masks, images = np.random.default_rng(seed), {}, {}
    for index, number in enumerate(COCO_IDS):
        name = f"{number:012}"
        mask_HW, _ = draw(rng, SIZES[index], [80, 120, 170], list(range(171)))
        images[name] = save_picture(rng, folder / "images" / "val2017" / f"{name}.jpg", mask_HW, index)
        masks[name] = mask_HW
        if kind == "raw":
            save_grey(folder / "annotations" / "val2017" / f"{name}.png", raw_N[mask_HW])
        else:
            save_grey(folder / "annotations" / "val2017" / f"{name}_labelTrainIds.png", mask_HW)
    return Truth(folder, tuple(masks), masks, None, images)


def coco_object(folder: Path, *, seed: int, kind: str = "instances") -> Truth:
    """COCO with ``kind`` ``instances`` (only the JSON), ``maps`` (only raw maps), ``both`` or ``train-ids``.

    The objects are polygons and run lengths, one a crowd. Where the maps say that a pixel is stuff or nothing at all,
    the class is 0, background.
    """
    rng, masks, objects, images = np.random.default_rng(seed), {}, {}, {}
    document: dict[str, Any] = {"images": [], "annotations": [], "categories": _coco_categories()}
    stuff_N = np.array([0, *(number - 1 for number in COCO_THINGS)], np.uint8)
    for index, number in enumerate(COCO_IDS):
        name = f"{number:012}"
        mask_HW, objects_HW = draw(rng, SIZES[index], [0], list(range(1, 81)), ignored=False)
        crowd = int(objects_HW.max()) if index == 2 else 0
        document["annotations"] += _coco_objects(mask_HW, objects_HW, number, crowd)
        images[name] = save_picture(rng, folder / "val2017" / f"{name}.jpg", mask_HW, index)
        height, width = mask_HW.shape
        document["images"].append({"id": number, "file_name": f"{name}.jpg", "height": height, "width": width})
        masks[name], objects[name] = mask_HW, np.where(objects_HW == crowd, -(crowd > 0), objects_HW).astype(np.int32)
        if kind in ("maps", "both"):
            nothing_HW = rng.choice([91, 120, 181, 255], mask_HW.shape)
            raw_HW = np.where(mask_HW == 0, nothing_HW, stuff_N[mask_HW]).astype(np.uint8)
            save_grey(folder / "stuffthingmaps" / "val2017" / f"{name}.png", raw_HW)
        elif kind == "train-ids":
            save_grey(folder / "annotations" / "val2017" / f"{name}_instanceTrainIds.png", mask_HW)
    if kind in ("instances", "both"):
        save_text(folder / "annotations" / "instances_val2017.json", json.dumps(document))
    return Truth(folder, tuple(masks), masks, objects if kind in ("instances", "both") else None, images)


def _coco_categories() -> list[dict[str, Any]]:
    return [{"id": number, "name": f"thing {number}", "supercategory": "thing"} for number in COCO_THINGS]


def _coco_objects(mask_HW: np.ndarray, objects_HW: np.ndarray, image: int, crowd: int) -> list[dict[str, Any]]:
    from pycocotools import mask as coco_mask

    found = []
    for number in range(1, int(objects_HW.max()) + 1):
        one_HW = objects_HW == number
        packed: Any = coco_mask.encode(np.asfortranarray(one_HW.astype(np.uint8)))
        segmentation: Any = {"size": list(one_HW.shape), "counts": packed["counts"].decode()}
        if number == crowd:
            # As in COCO: crowds have their run lengths as plain numbers, column by column, gaps first.
            column_M = np.concatenate([[0], one_HW.T.ravel(), [0]]).astype(int)
            edges = np.flatnonzero(np.diff(column_M)).tolist()
            runs = np.diff([0, *edges, one_HW.size]).tolist()
            segmentation = {"size": list(one_HW.shape), "counts": runs}
        rows, columns = np.nonzero(one_HW)
        left, top, right, bottom = (int(value) for value in (columns.min(), rows.min(), columns.max(), rows.max()))
        if one_HW[top : bottom + 1, left : right + 1].all() and number != crowd:
            corners = [left, top, right + 1, top, right + 1, bottom + 1, left, bottom + 1]
            segmentation = [[float(value) for value in corners]]
        found.append(
            {
                "id": image * 100 + number,
                "image_id": image,
                "category_id": COCO_THINGS[int(mask_HW[one_HW][0]) - 1],
                "segmentation": segmentation,
                "area": float(one_HW.sum()),
                "bbox": [left, top, right - left + 1, bottom - top + 1],
                "iscrowd": int(number == crowd),
            }
        )
    return found


def coco_panoptic(folder: Path, *, seed: int) -> Truth:
    """``annotations/panoptic_val2017.json`` with PNGs whose colour is R + 256·G + 65536·B; colour 0 is unlabelled."""
    rng, masks, objects, images = np.random.default_rng(seed), {}, {}, {}
    numbers = [*COCO_THINGS, *PANOPTIC_STUFF]
    document: dict[str, Any] = {"images": [], "annotations": [], "categories": []}
    for position, number in enumerate(numbers):
        thing = int(position < 80)
        document["categories"].append({"id": number, "name": str(number), "isthing": thing, "supercategory": "any"})
    for index, image in enumerate(COCO_IDS):
        name = f"{image:012}"
        mask_HW, objects_HW = draw(rng, SIZES[index], [80, 110, 132], list(range(80)))
        crowd = int(objects_HW.max()) if index == 2 else 0
        colours_HW3, segments = _panoptic_segments(rng, mask_HW, objects_HW, numbers, crowd)
        images[name] = save_picture(rng, folder / "val2017" / f"{name}.jpg", mask_HW, index)
        save_image(folder / "annotations" / "panoptic_val2017" / f"{name}.png", Image.fromarray(colours_HW3))
        height, width = mask_HW.shape
        document["images"].append({"id": image, "file_name": f"{name}.jpg", "height": height, "width": width})
        document["annotations"].append({"image_id": image, "file_name": f"{name}.png", "segments_info": segments})
        masks[name] = mask_HW
        objects[name] = np.where(objects_HW == crowd, -(crowd > 0), objects_HW).astype(np.int32)
    save_text(folder / "annotations" / "panoptic_val2017.json", json.dumps(document))
    return Truth(folder, tuple(masks), masks, objects, images)


def _panoptic_segments(
    rng: np.random.Generator, mask_HW: np.ndarray, objects_HW: np.ndarray, numbers: list[int], crowd: int
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Colours, and one entry for every object in their order, then one for every class of stuff."""
    parts = [objects_HW == number for number in range(1, int(objects_HW.max()) + 1)]
    parts += [(mask_HW == value) & (objects_HW == 0) for value in np.unique(mask_HW[objects_HW == 0])]
    colours_HW3, segments = np.zeros((*mask_HW.shape, 3), np.uint8), []
    for colour, part_HW in zip(rng.choice(np.arange(1, 256**3), len(parts), replace=False), parts, strict=True):
        colours_HW3[part_HW] = [colour % 256, colour // 256 % 256, colour // 65536]
        is_crowd = int(crowd > 0 and bool((objects_HW[part_HW] == crowd).all()))
        category = numbers[int(mask_HW[part_HW][0])]
        segments.append({"id": int(colour), "category_id": category, "area": int(part_HW.sum()), "iscrowd": is_crowd})
    return colours_HW3, segments
