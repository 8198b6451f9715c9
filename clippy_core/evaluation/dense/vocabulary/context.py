"""PASCAL Context, the 59 most frequent of its 459 classes, in the order of the alphabet.

Masks that the usual conversion writes count in this order, 0 being everything else, because that conversion sorts the
numbers of the 459 classes. Several public lists of the names begin with the twenty of VOC instead, which is the order
of another file of the data set; with such a list every figure for open vocabularies is wrong.

Source: class list and numbers of the PASCAL-Context site; the conversion is MMSegmentation's ``pascal_context.py``.
"""

from clippy_core.evaluation.dense.vocabulary.numbered import numbered

NUMBERS = numbered(
    """
    2 aeroplane, 9 bag, 18 bed, 19 bedclothes, 22 bench, 23 bicycle, 25 bird, 31 boat,
    33 book, 34 bottle, 44 building, 45 bus, 46 cabinet, 59 car, 65 cat, 68 ceiling,
    72 chair, 80 cloth, 85 computer, 98 cow, 104 cup, 105 curtain, 113 dog, 115 door,
    144 fence, 158 floor, 159 flower, 162 food, 187 grass, 189 ground, 207 horse,
    220 keyboard, 232 light, 258 motorbike, 259 mountain, 260 mouse, 284 person, 295 plate,
    296 platform, 308 pottedplant, 324 road, 326 rock, 347 sheep, 349 shelves, 354 sidewalk,
    355 sign, 360 sky, 366 snow, 368 sofa, 397 table, 415 track, 416 train, 420 tree,
    424 truck, 427 tvmonitor, 440 wall, 445 water, 454 window, 458 wood
    """
)
"""Names by number among the 459 classes, from 1."""

ALL = 459

CLASSES = tuple(NUMBERS.values())

# Two names are two words without the space between them; the track is that of a train.
_WRITTEN = {"pottedplant": "potted plant", "track": "railway track", "tvmonitor": "tv monitor"}
NAMES = tuple(_WRITTEN.get(name, name) for name in CLASSES)

SYNONYMS = {
    "aeroplane": ("airplane", "plane"),
    "bag": ("handbag", "backpack"),
    "bedclothes": ("bedding",),
    "bicycle": ("bike",),
    "boat": ("ship",),
    "building": ("house",),
    "cabinet": ("cupboard",),
    "car": ("automobile",),
    "cloth": ("fabric",),
    "cow": ("cattle",),
    "cup": ("mug",),
    "grass": ("lawn",),
    "ground": ("soil",),
    "light": ("lamp",),
    "motorbike": ("motorcycle",),
    "mountain": ("hill",),
    "mouse": ("computer mouse",),
    "person": ("man", "woman", "child", "people"),
    "potted plant": ("houseplant",),
    "railway track": ("railroad",),
    "road": ("street",),
    "rock": ("stone",),
    "sheep": ("lamb",),
    "shelves": ("shelf",),
    "sidewalk": ("pavement",),
    "sign": ("signboard",),
    "sofa": ("couch",),
    "tree": ("bush",),
    "truck": ("lorry",),
    "tv monitor": ("television", "computer screen"),
    "water": ("sea", "river"),
    "wood": ("wooden board",),
}

# Of the other 400 classes those that photographs show often; the 59 leave little to be background.
BACKGROUND = (
    *("bridge", "basket", "box", "toy", "hat", "helmet", "glove", "ball", "balloon", "umbrella", "guitar", "drum"),
    *("microphone", "camera", "mobile phone", "clock", "mirror", "picture frame", "candle", "fireplace", "stove"),
    *("fridge", "sink", "bathtub", "toilet", "towel", "knife", "spoon", "ladder", "rope", "pole", "wheel", "stairs"),
    *("flag", "tent", "sculpture", "fountain", "swimming pool", "machine", "pipe", "plastic", "metal", "fish"),
)
