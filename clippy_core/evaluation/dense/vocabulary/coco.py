"""COCO: 80 things, 91 kinds of stuff (COCO-Stuff) and the 53 that the panoptic task merges them into.

Sources: ``labels.txt`` of the COCO-Stuff repository; ``panoptic_coco_categories.json`` of the panopticapi repository.

In prompts, an official name loses its ending ``-other``, ``-stuff`` or ``-merged``, and a material comes before what is
made of it: ``wall-brick`` is a *brick wall*. The literature puts the official names into prompts, with hyphens.
"""

from clippy_core.evaluation.dense.vocabulary.numbered import numbered

THINGS = numbered(
    """
    1 person, 2 bicycle, 3 car, 4 motorcycle, 5 airplane, 6 bus, 7 train, 8 truck,
    9 boat, 10 traffic light, 11 fire hydrant, 13 stop sign, 14 parking meter, 15 bench,
    16 bird, 17 cat, 18 dog, 19 horse, 20 sheep, 21 cow, 22 elephant, 23 bear, 24 zebra,
    25 giraffe, 27 backpack, 28 umbrella, 31 handbag, 32 tie, 33 suitcase, 34 frisbee,
    35 skis, 36 snowboard, 37 sports ball, 38 kite, 39 baseball bat, 40 baseball glove,
    41 skateboard, 42 surfboard, 43 tennis racket, 44 bottle, 46 wine glass, 47 cup, 48 fork,
    49 knife, 50 spoon, 51 bowl, 52 banana, 53 apple, 54 sandwich, 55 orange, 56 broccoli,
    57 carrot, 58 hot dog, 59 pizza, 60 donut, 61 cake, 62 chair, 63 couch,
    64 potted plant, 65 bed, 67 dining table, 70 toilet, 72 tv, 73 laptop, 74 mouse,
    75 remote, 76 keyboard, 77 cell phone, 78 microwave, 79 oven, 80 toaster, 81 sink,
    82 refrigerator, 84 book, 85 clock, 86 vase, 87 scissors, 88 teddy bear, 89 hair drier,
    90 toothbrush
    """
)
"""Official names by category id; eleven of the ids up to 91 were never used."""

_STUFF = (
    *("banner", "blanket", "branch", "bridge", "building-other", "bush", "cabinet", "cage", "cardboard", "carpet"),
    *("ceiling-other", "ceiling-tile", "cloth", "clothes", "clouds", "counter", "cupboard", "curtain", "desk-stuff"),
    *("dirt", "door-stuff", "fence", "floor-marble", "floor-other", "floor-stone", "floor-tile", "floor-wood"),
    *("flower", "fog", "food-other", "fruit", "furniture-other", "grass", "gravel", "ground-other", "hill", "house"),
    *("leaves", "light", "mat", "metal", "mirror-stuff", "moss", "mountain", "mud", "napkin", "net", "paper"),
    *("pavement", "pillow", "plant-other", "plastic", "platform", "playingfield", "railing", "railroad", "river"),
    *("road", "rock", "roof", "rug", "salad", "sand", "sea", "shelf", "sky-other", "skyscraper", "snow"),
    *("solid-other", "stairs", "stone", "straw", "structural-other", "table", "tent", "textile-other", "towel"),
    *("tree", "vegetable", "wall-brick", "wall-concrete", "wall-other", "wall-panel", "wall-stone", "wall-tile"),
    *("wall-wood", "water-other", "waterdrops", "window-blind", "window-other", "wood"),
)
STUFF = dict(enumerate(_STUFF, start=92))
"""Official names by category id, 92 to 182."""

_KEPT_BY_PANOPTIC = (
    *(92, 93, 95, 100, 107, 109, 112, 118, 119, 122, 125, 128, 130, 133, 138, 141, 144, 145, 147, 148, 149, 151, 154),
    *(155, 156, 159, 161, 166, 168, 171, 175, 176, 177, 178, 180, 181),
)
_MERGED = (
    *("tree", "fence", "ceiling", "sky-other", "cabinet", "table", "floor-other", "pavement", "mountain", "grass"),
    *("dirt", "paper", "food-other", "building-other", "rock", "wall-other", "rug"),
)
PANOPTIC_STUFF = {number: STUFF[number] for number in _KEPT_BY_PANOPTIC} | {
    number: f"{name}-merged" for number, name in enumerate(_MERGED, start=184)
}
"""Official names by category id, 92 to 181 and 184 to 200."""

# Whatever the rule of this file's head does not make readable.
_WRITTEN = {
    "ceiling-tile": "tiled ceiling",
    "floor-tile": "tiled floor",
    "floor-wood": "wooden floor",
    "playingfield": "playing field",
    "solid-other": "solid object",
    "structural-other": "structure",
    "wall-panel": "panelled wall",
    "wall-tile": "tiled wall",
    "wall-wood": "wooden wall",
    "waterdrops": "water drops",
    "window-blind": "window blind",
}


def name_in_prompt(official: str) -> str:
    """An official name as it is put into prompts."""
    if official in _WRITTEN:
        return _WRITTEN[official]
    what, *rest = official.removesuffix("-merged").removesuffix("-other").removesuffix("-stuff").split("-")
    return " ".join([*rest, what])


SYNONYMS = {
    "person": ("man", "woman", "child", "people"),
    "bicycle": ("bike",),
    "car": ("automobile",),
    "motorcycle": ("motorbike",),
    "airplane": ("aeroplane", "plane"),
    "truck": ("lorry",),
    "boat": ("ship",),
    "cow": ("cattle",),
    "backpack": ("rucksack",),
    "tie": ("necktie",),
    "sports ball": ("ball",),
    "cup": ("mug",),
    "donut": ("doughnut",),
    "couch": ("sofa",),
    "potted plant": ("houseplant",),
    "tv": ("television",),
    "mouse": ("computer mouse",),
    "remote": ("remote control",),
    "cell phone": ("mobile phone",),
    "refrigerator": ("fridge",),
    "hair drier": ("hair dryer",),
}
"""Of things; they hold in every task."""

# For COCO-Object: stuff that photographs show often, and nothing that is one of the 80 things. A list of 26 words that
# the literature shares with VOC has "bed" on it, which here is a class.
BACKGROUND = (
    *("sky", "cloud", "fog", "tree", "bush", "flower", "grass", "dirt", "sand", "rock", "mountain", "hill", "snow"),
    *("sea", "river", "water", "road", "pavement", "railway track", "building", "house", "roof", "bridge", "tent"),
    *("fence", "railing", "wall", "brick", "floor", "carpet", "ceiling", "window", "curtain", "door", "stairs"),
    *("shelf", "cupboard", "counter", "lamp", "mirror", "blanket", "pillow", "towel", "paper", "cardboard", "sign"),
)
