"""Cut-outs laid over backgrounds, always at the same place and size, so that nothing but the background changes.

Layout: ``DIR/subjects`` holds pictures with transparency, called after what they show (``dog.png``, ``dog-2.png``) or
in a folder that is (``dog/whatever.png``); ``DIR/backgrounds`` holds pictures, named or in folders likewise.

Shapes: H/W pixel, h/w pixel of the cut-out.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clippy_core.errors import DataError, ImageError, UsageError
from clippy_core.images import SUFFIXES, read_picture

SUBJECTS, BACKGROUNDS = "subjects", "backgrounds"
TREE = (
    f"{SUBJECTS}/dog.png or {SUBJECTS}/dog/1.png with transparency, and {BACKGROUNDS}/beach.jpg or "
    f"{BACKGROUNDS}/beach/1.jpg"
)
VISIBLE = 128
"""Opacity, 0…255, from which on a pixel belongs to the subject."""
LEAST_SCALE, MOST_SCALE = 0.05, 1.0


@dataclass(frozen=True)
class Named:
    """A picture of a folder and what it shows.

    Attributes:
        path: Its file.
        name: What it is called, different from all others of the folder.
        kind: What it shows.
    """

    path: Path
    name: str
    kind: str


def is_composable(folder: Path) -> bool:
    """Whether a folder has the layout of this module."""
    return (folder / SUBJECTS).is_dir() and (folder / BACKGROUNDS).is_dir()


def find_named(folder: Path) -> tuple[Named, ...]:
    """The pictures in a folder and in the folders right below it, by name; hidden ones are passed over.

    Raises:
        DataError: The folder cannot be read or has no picture.
    """
    try:
        entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
        below = {
            entry: sorted(path for path in entry.iterdir() if not path.name.startswith("."))
            for entry in entries
            if entry.is_dir()
        }
    except OSError as error:
        raise DataError(f"{error.filename or folder}: cannot be read ({error.strerror or error})") from error
    found = [Named(path, path.stem, _spoken(path.stem)) for path in entries if _is_picture(path)]
    for parent, paths in below.items():
        found += [Named(path, f"{parent.name}/{path.stem}", _words(parent.name)) for path in paths if _is_picture(path)]
    if not found:
        raise DataError(
            f"{folder}: no picture in this folder (looked for {', '.join(sorted(SUFFIXES))}); expected: {TREE}"
        )
    stems = [named.name for named in found]
    return tuple(
        Named(
            named.path, named.name if stems.count(named.name) == 1 else f"{named.name}{named.path.suffix}", named.kind
        )
        for named in found
    )


def read_cutout(path: Path, *, max_pixels: int) -> np.ndarray:
    """A picture with transparency, ``uint8`` RGBA (h, w, 4), cut to what can be seen of it.

    Raises:
        ImageError: It cannot be read, or nothing, or all of it, is transparent.
    """
    from PIL import Image, ImageOps

    read_picture(path, max_pixels=max_pixels)  # says in one line what is wrong with it
    try:
        with Image.open(path) as image:
            if not image.has_transparency_data:
                raise ImageError(f"{path}: no transparency; a subject is a cut-out, such as an RGBA PNG")
            rgba_hw4 = np.asarray(ImageOps.exif_transpose(image).convert("RGBA"))
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error})") from error
    seen_hw = rgba_hw4[..., 3] >= VISIBLE
    if not seen_hw.any() or rgba_hw4[..., 3].min() >= VISIBLE:
        raise ImageError(
            f"{path}: {'all' if not seen_hw.any() else 'nothing'} of it is transparent; a subject is a cut-out"
        )
    rows, columns = np.flatnonzero(seen_hw.any(1)), np.flatnonzero(seen_hw.any(0))
    return rgba_hw4[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def fill_square(pixels_HW3: np.ndarray, side: int) -> np.ndarray:
    """The middle of a picture as a square, ``uint8`` (side, side, 3)."""
    from PIL import Image

    height, width = pixels_HW3.shape[:2]
    short = min(height, width)
    top, left = (height - short) // 2, (width - short) // 2
    box = (left, top, left + short, top + short)
    return np.asarray(Image.fromarray(pixels_HW3).resize((side, side), Image.Resampling.BICUBIC, box=box))


def scaled(cutout_hw4: np.ndarray, longest: int) -> np.ndarray:
    """A cut-out brought to a size: its longer side has ``longest`` pixels."""
    from PIL import Image

    height, width = cutout_hw4.shape[:2]
    factor = longest / max(height, width)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    # Pillow weighs colours by opacity here, so that what lies under transparent pixels does not bleed in.
    return np.asarray(Image.fromarray(cutout_hw4).resize(size, Image.Resampling.LANCZOS))


def lay_over(cutout_hw4: np.ndarray, ground_HW3: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A cut-out in the middle of a background that is at least as large.

    Args:
        cutout_hw4: RGBA, ``uint8``.
        ground_HW3: RGB, ``uint8``.

    Returns:
        The picture, ``uint8`` RGB, and which of its pixels belong to the subject, ``bool`` (H, W).
    """
    height, width = cutout_hw4.shape[:2]
    top, left = (ground_HW3.shape[0] - height) // 2, (ground_HW3.shape[1] - width) // 2
    inside = slice(top, top + height), slice(left, left + width)
    opacity_hw1 = cutout_hw4[..., 3:].astype(np.float32) / 255
    picture_HW3 = ground_HW3.copy()
    mixed_hw3 = opacity_hw1 * cutout_hw4[..., :3] + (1 - opacity_hw1) * ground_HW3[inside]
    picture_HW3[inside] = np.rint(mixed_hw3).astype(np.uint8)
    own_HW = np.zeros(ground_HW3.shape[:2], bool)
    own_HW[inside] = cutout_hw4[..., 3] >= VISIBLE
    return picture_HW3, own_HW


def check_scale(scale: float) -> float:
    """The scale; raises UsageError outside 0.05…1."""
    if not LEAST_SCALE <= scale <= MOST_SCALE:
        raise UsageError(f"--scale is {scale:g}; accepted: {LEAST_SCALE:g} to {MOST_SCALE:g} of the picture's side")
    return scale


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.is_dir()


def _spoken(stem: str) -> str:
    """``polar_bear-2`` as *polar bear*."""
    return _words(re.sub(r"[\s_.-]*\(?\d+\)?$", "", stem) or stem)


def _words(name: str) -> str:
    return " ".join(re.split(r"[\s_]+", name.strip())) or name
