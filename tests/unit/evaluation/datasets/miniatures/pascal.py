"""PASCAL VOC 2012 and PASCAL Context. Shapes: H/W pixel."""

from pathlib import Path

import numpy as np

from .drawing import SIZES, Truth, draw, save_grey, save_palette, save_picture, save_text

VOC_NAMES = ("2007_000033", "2008_000123", "2009_001299", "2011_003255")


def voc(folder: Path, *, seed: int, classes: int = 21) -> Truth:
    """``VOCdevkit/VOC2012``: palette PNGs, 0 = background, 255 = void along the edges of objects."""
    rng, root = np.random.default_rng(seed), folder / "VOCdevkit" / "VOC2012"
    masks, objects, images = {}, {}, {}
    for index, name in enumerate(VOC_NAMES):
        mask_HW, objects_HW = draw(rng, SIZES[index], [0], list(range(1, 21)))
        images[name] = save_picture(rng, root / "JPEGImages" / f"{name}.jpg", mask_HW, index)
        save_palette(root / "SegmentationClass" / f"{name}.png", mask_HW)
        save_palette(root / "SegmentationObject" / f"{name}.png", np.where(objects_HW < 0, 255, objects_HW))
        masks[name] = mask_HW if classes == 21 else np.where(mask_HW % 255 == 0, 255, mask_HW - 1).astype(np.uint8)
        objects[name] = objects_HW
    save_text(root / "ImageSets" / "Segmentation" / "val.txt", "".join(f"{name}\n" for name in VOC_NAMES))
    save_text(root / "ImageSets" / "Segmentation" / "train.txt", f"{VOC_NAMES[0]}\n")
    return Truth(folder / "VOCdevkit", VOC_NAMES, masks, objects, images, {"classes": classes})


def context(folder: Path, *, seed: int, classes: int = 60, kind: str = "png") -> Truth:
    """``VOCdevkit/VOC2010`` with ``kind`` ``png`` (converted, 0…59) or ``mat`` (the original 459 classes)."""
    rng, root = np.random.default_rng(seed), folder / "VOCdevkit" / "VOC2010"
    masks, images = {}, {}
    for index, name in enumerate(VOC_NAMES):
        mask_HW, _ = draw(rng, SIZES[index], [0, 12, 59], list(range(1, 60)), ignored=False)
        images[name] = save_picture(rng, root / "JPEGImages" / f"{name}.jpg", mask_HW, index)
        masks[name] = mask_HW if classes == 60 else np.where(mask_HW == 0, 255, mask_HW - 1).astype(np.uint8)
        if kind == "png":
            save_grey(root / "SegmentationClassContext" / f"{name}.png", mask_HW)
        else:
            _save_matlab(rng, root.parent / "trainval" / f"{name}.mat", mask_HW)
    kept = "SegmentationContext" if kind == "png" else "Main"
    save_text(root / "ImageSets" / kept / "val.txt", "".join(f"{name}\n" for name in VOC_NAMES))
    return Truth(folder / "VOCdevkit", VOC_NAMES, masks, None, images, {"classes": classes})


# Numbers of the 59 classes among the 459, in the order of the alphabet. Source: class list of the PASCAL-Context site.
CONTEXT_NUMBERS = (
    *(2, 9, 18, 19, 22, 23, 25, 31, 33, 34, 44, 45, 46, 59, 65, 68, 72, 80, 85, 98, 104, 105, 113, 115, 144, 158, 159),
    *(162, 187, 189, 207, 220, 232, 258, 259, 260, 284, 295, 296, 308, 324, 326, 347, 349, 354, 355, 360, 366, 368),
    *(397, 415, 416, 420, 424, 427, 440, 445, 454, 458),
)


def _save_matlab(rng: np.random.Generator, path: Path, mask_HW: np.ndarray) -> None:
    """As the original: ``LabelMap`` of 16 bits; pixels without one of the 59 have any of the others."""
    from scipy.io import savemat

    others = np.setdiff1d(np.arange(1, 460), CONTEXT_NUMBERS)
    label_map_HW = np.array([0, *CONTEXT_NUMBERS], np.uint16)[mask_HW]
    label_map_HW = np.where(mask_HW == 0, rng.choice(others, mask_HW.shape), label_map_HW).astype(np.uint16)
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {"LabelMap": label_map_HW}, do_compression=True)
