"""Small data sets in the official layouts, drawn at random, with the truth that was drawn.

Every maker writes into an empty folder and returns a :class:`Truth`: ``voc(folder, seed=0)``, or by the benchmark's
name ``MAKERS["voc"](folder, seed=0)``. Nothing here comes from the code under test: ids are the data sets' own.
Among the pictures of each are a grey one, one whose EXIF says that it is to be turned, and odd sizes. Pixels have the
colour ``COLOURS_N3`` of their class and a little noise, as JPEG allows.
"""

from collections.abc import Callable

from .coco import coco_object, coco_panoptic, coco_stuff
from .drawing import COLOURS_N3, IGNORED, Truth
from .others import ade20k, cityscapes, folder
from .pascal import context, voc

MAKERS: dict[str, Callable[..., Truth]] = {
    "voc": voc,
    "context": context,
    "coco-stuff": coco_stuff,
    "coco-object": coco_object,
    "coco-panoptic": coco_panoptic,
    "ade20k": ade20k,
    "cityscapes": cityscapes,
    "folder": folder,
}

__all__ = ["COLOURS_N3", "IGNORED", "MAKERS", "Truth"]
