"""ADE20K, Cityscapes and any folder. Shapes: H/W pixel, N number of a label."""

from pathlib import Path

import numpy as np
from PIL import Image

from .drawing import SIZES, Truth, draw, save_grey, save_image, save_palette, save_picture, save_text, save_wide

CITYSCAPES_19 = [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]


def ade20k(folder: Path, *, seed: int, instances: bool = True) -> Truth:
    """``ADEChallengeData2016``: 0 = ignored, 1…150; instances as R = category, G = number."""
    rng, root = np.random.default_rng(seed), folder / "ADEChallengeData2016"
    masks, objects, images = {}, {}, {}
    for index in range(len(SIZES)):
        name = f"ADE_val_{index + 1:08}"
        mask_HW, objects_HW = draw(rng, SIZES[index], [0, 1, 149], list(range(7, 150)))
        objects_HW = np.maximum(objects_HW, 0)
        images[name] = save_picture(rng, root / "images" / "validation" / f"{name}.jpg", mask_HW, index)
        save_grey(root / "annotations" / "validation" / f"{name}.png", (mask_HW.astype(int) + 1) % 256)
        category_HW = np.where(objects_HW > 0, mask_HW % 100 + 1, 0)
        found_HW3 = np.stack([category_HW, objects_HW, np.zeros_like(objects_HW)], axis=-1).astype(np.uint8)
        if instances:
            save_image(root / "annotations_instance" / "validation" / f"{name}.png", Image.fromarray(found_HW3))
        masks[name], objects[name] = mask_HW, objects_HW
    return Truth(folder, tuple(masks), masks, objects if instances else None, images)


def cityscapes(folder: Path, *, seed: int, classes: int = 19, kind: str = "ids") -> Truth:
    """``leftImg8bit/val`` and ``gtFine/val`` with ``kind`` ``ids`` (and instances) or ``train-ids``."""
    rng, masks, objects, images = np.random.default_rng(seed), {}, {}, {}
    with_objects = [24, 25, 26, 27, 28, 31, 32, 33] if classes == 19 else list(range(24, 34))
    known = CITYSCAPES_19 if classes == 19 else list(range(7, 34))
    class_of_N = np.full(256, 255, np.uint8)
    class_of_N[known] = np.arange(len(known))
    cities = ("frankfurt", "frankfurt", "lindau", "munster")
    for index, city in enumerate(cities):
        name = f"{city}_{index:06}_{rng.integers(10**6):06}"
        # In the order of their values in the file, as numbers of objects follow them.
        mask_HW, objects_HW = draw(rng, SIZES[index], [7, 21, 23], with_objects, ordered=True)
        ids_HW = np.where(mask_HW == 255, rng.choice([0, 3, 4, 5, 6], mask_HW.shape), mask_HW)
        start = f"gtFine/val/{city}/{name}_gtFine"
        images[name] = save_picture(rng, folder / f"leftImg8bit/val/{city}/{name}_leftImg8bit.png", mask_HW, index)
        masks[name] = class_of_N[mask_HW]
        instances_HW = np.where(objects_HW > 0, ids_HW * 1000 + objects_HW, ids_HW)
        if index == 2:  # A group: the class is known, the single objects are not.
            group = int(objects_HW.max())
            instances_HW = np.where(objects_HW == group, ids_HW, instances_HW)
            objects_HW = np.where(objects_HW == group, -1, objects_HW).astype(np.int32)
        objects[name] = objects_HW
        if kind == "ids":
            save_grey(folder / f"{start}_labelIds.png", ids_HW.astype(np.uint8))
            save_image(folder / f"{start}_instanceIds.png", Image.fromarray(instances_HW.astype(np.uint16)))
        else:
            save_grey(folder / f"{start}_labelTrainIds.png", masks[name])
    names = tuple(sorted(masks))
    return Truth(folder, names, masks, objects if kind == "ids" else None, images, {"classes": classes})


def folder(folder: Path, *, seed: int, labels: int = 6, kind: str = "palette", instances: bool = True) -> Truth:
    """``images``, ``masks`` of ``kind`` ``palette``, ``grey`` or ``16-bit``, ``labels.txt`` and ``instances``."""
    rng, masks, objects, images = np.random.default_rng(seed), {}, {}, {}
    suffixes = ("jpg", "png", "webp", "jpg")
    save = {"palette": save_palette, "grey": save_grey, "16-bit": save_wide}[kind]
    for index, suffix in enumerate(suffixes):
        name = f"street/view {index}" if index == 2 else f"view {index}"
        mask_HW, objects_HW = draw(rng, SIZES[index], [0, 1], list(range(2, min(labels, 255))))
        images[name] = save_picture(rng, folder / "images" / f"{name}.{suffix}", mask_HW, index)
        masks[name], objects[name] = mask_HW, objects_HW
        save(folder / "masks" / f"{name}.png", mask_HW)
        if instances:
            save_grey(folder / "instances" / f"{name}.png", np.where(objects_HW < 0, 255, objects_HW).astype(np.uint8))
    lines = ["background|nothing", *(f"thing {index}|sort {index}" for index in range(1, labels))]
    save_text(folder / "labels.txt", "".join(f"{line}\n" for line in lines))
    return Truth(folder, tuple(sorted(masks)), masks, objects if instances else None, images)
