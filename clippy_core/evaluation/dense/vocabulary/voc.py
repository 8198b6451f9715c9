"""PASCAL VOC 2012. Source: class list of the development kit."""

CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog"),
    *("horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)

# Three names are two words without the space between them.
_SPACED = {"diningtable": "dining table", "pottedplant": "potted plant", "tvmonitor": "tv monitor"}
NAMES = tuple(_SPACED.get(name, name) for name in CLASSES)

SYNONYMS = {
    "aeroplane": ("airplane", "plane"),
    "bicycle": ("bike",),
    "boat": ("ship",),
    "car": ("automobile",),
    "cow": ("cattle",),
    "dining table": ("table",),
    "motorbike": ("motorcycle",),
    "person": ("man", "woman", "child", "people"),
    "potted plant": ("houseplant",),
    "sofa": ("couch",),
    "tv monitor": ("television", "computer screen"),
}

# What surrounds the twenty kinds of objects: nature, buildings and their parts, furniture that is not among them. The
# literature has similar lists, of 26 words with TCL and SCLIP; "desk" of theirs is missing here, as it may mean the
# class of tables.
BACKGROUND = (
    *("sky", "cloud", "tree", "bush", "grass", "field", "ground", "soil", "sand", "rock", "mountain", "hill", "snow"),
    *("sea", "river", "lake", "water", "road", "pavement", "railway track", "building", "house", "roof", "bridge"),
    *("fence", "railing", "wall", "brick", "floor", "carpet", "ceiling", "window", "curtain", "door", "stairs"),
    *("shelf", "cupboard", "wardrobe", "bed", "pillow", "blanket", "lamp", "book", "paper", "plate", "food", "sign"),
)
