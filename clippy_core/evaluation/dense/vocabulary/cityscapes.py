"""Cityscapes. Source: ``labels.py`` of cityscapesScripts.

The 19 classes are those of the official evaluation; the 27 are all labels but the voids, ids 7 to 33, on which
unsupervised segmentation is measured (PiCIE, arXiv 2103.17070; STEGO, arXiv 2203.08414).
"""

from clippy_core.evaluation.dense.vocabulary.numbered import numbered

LABELS = numbered(
    """
    7 road, 8 sidewalk, 9 parking, 10 rail track, 11 building, 12 wall, 13 fence,
    14 guard rail, 15 bridge, 16 tunnel, 17 pole, 18 polegroup, 19 traffic light,
    20 traffic sign, 21 vegetation, 22 terrain, 23 sky, 24 person, 25 rider, 26 car,
    27 truck, 28 bus, 29 caravan, 30 trailer, 31 train, 32 motorcycle, 33 bicycle
    """
)
"""Names by label id; 0 to 6 are voids."""

VOIDS = range(7)

EVALUATED = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""Ids of the 19, in the order of their train ids."""

WITH_INSTANCES = range(24, 34)

IDS = {19: EVALUATED, 27: tuple(LABELS)}

_WRITTEN = {"parking": "parking lot", "polegroup": "group of poles"}


def names(classes: int) -> tuple[str, ...]:
    """Names for prompts, of 19 or 27 classes."""
    return tuple(_WRITTEN.get(LABELS[number], LABELS[number]) for number in IDS[classes])


SYNONYMS = {
    "road": ("street",),
    "sidewalk": ("pavement",),
    "rail track": ("railway track",),
    "building": ("house",),
    "guard rail": ("crash barrier",),
    "pole": ("post",),
    "traffic sign": ("road sign",),
    "vegetation": ("tree", "bush"),
    "terrain": ("grass", "lawn"),
    "person": ("pedestrian",),
    "rider": ("cyclist", "motorcyclist"),
    "car": ("automobile",),
    "truck": ("lorry",),
    "train": ("tram",),
    "motorcycle": ("motorbike",),
    "bicycle": ("bike",),
}
