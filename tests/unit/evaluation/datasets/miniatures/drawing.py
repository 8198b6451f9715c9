"""Masks with bands and rectangles, pictures that show them, and files of every kind that data sets keep them in.

Shapes: H/W pixel, N number of a label.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

IGNORED = 255
SIZES = ((37, 53), (48, 31), (40, 40), (29, 61))
GREY, TURNED = 1, 3  # which of the pictures
COLOURS_N3 = np.random.default_rng(0).integers(30, 226, (256, 3)).astype(np.uint8)


@dataclass(frozen=True)
class Truth:
    """What a maker drew.

    Attributes:
        data: The folder to give to ``read``.
        names: The names of the pictures, in order.
        masks: The class of every pixel by name, ``uint8`` H×W as displayed, 255 for ignored.
        objects: The number of the object of every pixel by name, ``int32`` H×W, 0 for none, −1 for ignored; None if
            the data set has no objects.
        images: The picture files by name.
        options: Keyword arguments that ``read`` needs to give these masks.
    """

    data: Path
    names: tuple[str, ...]
    masks: dict[str, np.ndarray]
    objects: dict[str, np.ndarray] | None
    images: dict[str, Path]
    options: dict[str, Any] = field(default_factory=dict)


def draw(
    rng: np.random.Generator,
    size: tuple[int, int],
    stuff: list[int],
    things: list[int],
    *,
    ignored: bool = True,
    ordered: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Bands of stuff with three to five rectangles on them, and ignored pixels: a mask and numbers of the objects.

    Args:
        rng: Where chance comes from.
        size: Height and width.
        stuff: Values of the bands, from top to bottom.
        things: Values that objects may have.
        ignored: Whether a line of pixels is 255, with object −1.
        ordered: Whether objects of a higher number have a class that is not lower.
    """
    height, width = size
    while True:
        mask_HW = np.array(stuff, np.uint8)[np.arange(height) * len(stuff) // height][:, None].repeat(width, 1)
        objects_HW = np.zeros(size, np.int32)
        values = rng.choice(things, rng.integers(3, 6)).tolist()
        for number, value in enumerate(sorted(values) if ordered else values, start=1):
            top, left = int(rng.integers(height - 8)), int(rng.integers(width - 8))
            part = np.s_[top : top + int(rng.integers(5, height // 2)), left : left + int(rng.integers(5, width // 2))]
            mask_HW[part], objects_HW[part] = value, number
        if ignored:
            row = int(rng.integers(height))
            mask_HW[row, : width // 2], objects_HW[row, : width // 2] = IGNORED, -1
        if len(np.unique(objects_HW[objects_HW > 0])) == len(values):
            return mask_HW, objects_HW


def save_picture(rng: np.random.Generator, path: Path, mask_HW: np.ndarray, index: int) -> Path:
    """A picture of the size of ``mask_HW`` as displayed; the second is grey, the fourth is stored lying on its side."""
    pixels_HW3 = COLOURS_N3[mask_HW].astype(int) + rng.integers(-9, 10, (*mask_HW.shape, 1))
    image = Image.fromarray(pixels_HW3.clip(0, 255).astype(np.uint8))
    if index == GREY:
        image = image.convert("L")
    exif = Image.Exif()
    if index == TURNED:
        exif[0x0112] = 6  # To be turned by 90° clockwise.
        image = image.transpose(Image.Transpose.ROTATE_90)
    save_image(path, image, exif=exif, **({"quality": 95} if path.suffix == ".jpg" else {}))
    return path


def save_image(path: Path, image: Image.Image, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)


def save_grey(path: Path, values_HW: np.ndarray) -> None:
    save_image(path, Image.fromarray(values_HW.astype(np.uint8)))


def save_wide(path: Path, values_HW: np.ndarray) -> None:
    """16-bit grey; 255 becomes 65535."""
    values_HW = values_HW.astype(np.uint16)
    save_image(path, Image.fromarray(np.where(values_HW == 255, np.uint16(65535), values_HW)))


def save_palette(path: Path, values_HW: np.ndarray) -> None:
    height, width = values_HW.shape
    coloured = Image.frombytes("P", (width, height), values_HW.astype(np.uint8).tobytes())
    coloured.putpalette(voc_palette().tobytes())
    save_image(path, coloured)


def voc_palette() -> np.ndarray:
    """Colours of PASCAL VOC, ``uint8`` (256, 3): three bits of the number a step, red first, high bits first."""
    numbers_N, colours_N3 = np.arange(256), np.zeros((256, 3), np.uint8)
    for step in range(8):
        for channel in range(3):
            colours_N3[:, channel] |= ((numbers_N >> (3 * step + channel) & 1) << (7 - step)).astype(np.uint8)
    return colours_N3


def save_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
