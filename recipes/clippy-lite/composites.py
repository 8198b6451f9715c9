"""Measuring on composed pictures of things that training has not seen: naming and grouping, by exact masks.

    python recipes/clippy-lite/composites.py --cache DIR --out FOLDER
    clippy eval folder --data FOLDER --metric both

writes them as a labelled folder, for `clippy eval` and any model.

Shapes: C class, H/W pixel.
"""

import argparse
from pathlib import Path

import numpy as np
from compose import BACKGROUND_CLASSES, Composer  # beside this file
from PIL import Image

from clippy_core.evaluation.confusion import Confusion
from clippy_core.evaluation.jaccard import Jaccard
from clippy_core.prompts import parse_labels
from clippy_core.segmentation.grouping import group_patches, upsample_groups
from clippy_core.segmentation.options import SegmentOptions
from clippy_core.segmentation.segmenter import Segmenter

PICTURES = 300
GROUPS = 8


def measure(segmenter: Segmenter, composer: Composer, count: int = PICTURES) -> dict[str, float]:
    """Mean IoU over all names of held-out things and materials at once, by kind, and JS; 0…1."""
    confusion, jaccard, classes = confusion_of(segmenter, composer, count)
    iou_C = confusion.iou
    stuff = len(composer.words)
    return {
        "mIoU": confusion.miou,
        "mIoU of things": float(np.nanmean(iou_C[stuff:])),
        "mIoU of stuff": float(np.nanmean(iou_C[:stuff])),
        "JS": jaccard.mean,
        "classes": float(len(classes)),
    }


def confusion_of(segmenter: Segmenter, composer: Composer, count: int) -> tuple[Confusion, Jaccard, list[str]]:
    """Counts over pictures 0…count−1 of the composer, and the classes: materials, then things by their exact name."""
    classes, index_of = classes_of(composer)
    options = SegmentOptions()
    embeddings = segmenter.embed_labels(parse_labels(classes), options)
    confusion, jaccard = Confusion(len(classes)), Jaccard()
    for number in range(count):
        picture = composer.draw(number)
        features_PD, grid = segmenter.encode(picture.pixels_HW3, options)
        size = picture.mask_HW.shape
        label_map_HW = segmenter.label(features_PD, grid, size, embeddings, options, images_ahead=count)
        confusion.add(index_of[picture.mask_HW], label_map_HW.astype(np.int64))
        groups_P = group_patches(features_PD, GROUPS).cpu().numpy()
        jaccard.add(picture.instances_HW, upsample_groups(groups_P, grid, size))
    return confusion, jaccard, classes


def classes_of(composer: Composer) -> tuple[list[str], np.ndarray]:
    """Materials, then things by their exact name; and the class of every number in a composer's masks, −1 for none."""
    numbers = {number: composer.cutouts[number].names[0] for number in composer.numbers}
    classes = [*composer.words, *dict.fromkeys(name for name in numbers.values() if name not in composer.words)]
    index_of = np.full(BACKGROUND_CLASSES + len(composer.cutouts), -1, np.int64)
    index_of[: len(composer.words)] = np.arange(len(composer.words))
    for number, name in numbers.items():
        index_of[BACKGROUND_CLASSES + number] = classes.index(name)
    return classes, index_of


def write_folder(out: Path, composer: Composer, count: int) -> None:
    """Pictures 0…count−1 in the layout of the benchmark ``folder``."""
    classes, index_of = classes_of(composer)
    for kind in ("images", "masks", "instances"):
        (out / kind).mkdir(parents=True, exist_ok=True)
    (out / "labels.txt").write_text("\n".join(classes) + "\n", encoding="utf-8")
    for number in range(count):
        picture = composer.draw(number)
        name = f"{number:05d}.png"
        Image.fromarray(picture.pixels_HW3).save(out / "images" / name)
        Image.fromarray(index_of[picture.mask_HW].astype(np.uint8)).save(out / "masks" / name)
        Image.fromarray(picture.instances_HW.astype(np.uint8)).save(out / "instances" / name)


def main() -> None:
    """Write the folder."""
    import build  # beside this file; it imports this one

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=Path(".cache/clippy-lite"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pictures", type=int, default=PICTURES)
    arguments = parser.parse_args()
    write_folder(arguments.out, build.composer(arguments.cache.resolve(), held_out=True), arguments.pictures)


if __name__ == "__main__":
    main()
