"""Measuring on composed pictures of things that training has not seen: naming and grouping, by exact masks.

Shapes: C class, H/W pixel.
"""

import numpy as np
from compose import BACKGROUND_CLASSES, Composer  # beside this file

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
    numbers = {number: composer.cutouts[number].names[0] for number in composer.numbers}
    classes = [*composer.words, *dict.fromkeys(name for name in numbers.values() if name not in composer.words)]
    index_of = np.full(BACKGROUND_CLASSES + len(composer.cutouts), -1, np.int64)
    index_of[: len(composer.words)] = np.arange(len(composer.words))
    for number, name in numbers.items():
        index_of[BACKGROUND_CLASSES + number] = classes.index(name)
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
