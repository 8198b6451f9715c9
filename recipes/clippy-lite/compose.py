"""Pictures with captions, composed: cut-out photographs over named stuff, in varied light, scale and place.

Picture number N of a seed is always the same. The mask of a picture says what is where; it is for measuring only and
never reaches training.

Shapes: S side of the picture, H/W pixel.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from cutouts import Cutout  # beside this file
from PIL import Image

SIDE = 320
UPPER = ("sky", "wall", "building", "tree", "brick wall", "rock")
"""Stuff that stands behind things; the rest lies under them."""
UNDER_WORDS = {"water": ("in", "on"), "tree": ("in front of",), "sky": ("in", "against")}
BEHIND_WORDS = {"sky": ("under",), "tree": ("in front of",)}
MOST_THINGS = 3
BACKGROUND_CLASSES = 64
"""Numbers in masks below this are stuff, in the order of the materials; things follow in the order of the cut-outs."""


@dataclass(frozen=True)
class Picture:
    """One composed picture.

    Attributes:
        pixels_HW3: RGB, ``uint8``, S×S.
        caption: What is there and where.
        mask_HW: ``uint16``, S×S: the number of a material, or 64 + the number of a cut-out.
        instances_HW: ``int32``, S×S: 0 for stuff, else which thing.
    """

    pixels_HW3: np.ndarray
    caption: str
    mask_HW: np.ndarray
    instances_HW: np.ndarray


class Composer:
    """Draws pictures of some cut-outs over some materials.

    Args:
        cutouts: Things, all there are; their order gives their numbers.
        materials: Pictures of each kind of stuff, by its word.
        held_out: Use the things that are held out, instead of the others.
        seed: Another seed gives other pictures.
    """

    def __init__(
        self, cutouts: Sequence[Cutout], materials: Mapping[str, Sequence[Path]], *, held_out: bool, seed: int
    ) -> None:
        self.numbers = [number for number, cutout in enumerate(cutouts) if cutout.held_out == held_out]
        self.cutouts, self.seed = cutouts, seed
        self.words = list(materials)
        self.materials = materials

    def draw(self, number: int) -> Picture:
        """Picture ``number`` of the seed."""
        random = np.random.default_rng([self.seed, number])
        pixels_HW3 = np.empty((SIDE, SIDE, 3), np.float32)
        mask_HW = np.empty((SIDE, SIDE), np.uint16)
        instances_HW = np.zeros((SIDE, SIDE), np.int32)
        behind, under = self._stuff(pixels_HW3, mask_HW, random)
        things: list[tuple[str, str]] = []
        for index in range(int(random.choice(MOST_THINGS + 1, p=[0.15, 0.4, 0.3, 0.15]))):
            thing = self._thing(pixels_HW3, mask_HW, instances_HW, index + 1, random)
            if thing is not None:
                things.append(thing)
        finished_HW3 = _light(pixels_HW3, random)
        return Picture(finished_HW3, caption(things, behind, under, random), mask_HW, instances_HW)

    def _stuff(
        self, pixels_HW3: np.ndarray, mask_HW: np.ndarray, random: np.random.Generator
    ) -> tuple[str | None, str]:
        """Fill the picture; returns the word behind, if there are two, and the word under everything."""
        lower_words = [word for word in self.words if word not in UPPER]
        if random.random() < 0.35:
            word = str(random.choice(self.words))
            pixels_HW3[:] = self._material(word, random)
            mask_HW[:] = self.words.index(word)
            return None, word
        behind = str(random.choice([word for word in self.words if word in UPPER], p=_sky_first(self.words)))
        under = str(random.choice(lower_words))
        edge_HW1 = _edge(random)[..., None]
        lower_HW3 = _receding(self._material(under, random), random)
        pixels_HW3[:] = self._material(behind, random) * (1 - edge_HW1) + lower_HW3 * edge_HW1
        mask_HW[:] = np.where(edge_HW1[..., 0] > 0.5, self.words.index(under), self.words.index(behind))
        return behind, under

    def _material(self, word: str, random: np.random.Generator) -> np.ndarray:
        """A part of one of the word's pictures, mirrored and scaled at random, S×S×3, 0…255."""
        source_HW3 = _picture(self.materials[word][int(random.integers(len(self.materials[word])))])
        height, width = source_HW3.shape[:2]
        side = int(min(height, width) * random.uniform(0.5, 1))
        top, left = random.integers((height - side + 1, width - side + 1))
        part = source_HW3[top : top + side, left : left + side]
        if word not in UPPER and random.random() < 0.4:
            part = np.tile(part, (2, 2, 1))
        if random.random() < 0.5:
            part = part[:, ::-1]
        return cv2.resize(part, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)

    def _thing(
        self,
        pixels_HW3: np.ndarray,
        mask_HW: np.ndarray,
        instances_HW: np.ndarray,
        index: int,
        random: np.random.Generator,
    ) -> tuple[str, str] | None:
        """Paste a thing; returns its name and where it is, or None if nearly nothing of it shows."""
        number = int(random.choice(self.numbers))
        cutout = self.cutouts[number]
        rgba_HW4 = _cutout(cutout.path)
        if random.random() < 0.5:
            rgba_HW4 = rgba_HW4[:, ::-1]
        scale = SIDE * random.uniform(0.25, 0.9) / max(rgba_HW4.shape[:2])
        height, width = (max(8, round(side * scale)) for side in rgba_HW4.shape[:2])
        rgba_HW4 = cv2.resize(rgba_HW4, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32)
        rgba_HW4[..., :3] = np.clip(rgba_HW4[..., :3] * random.uniform(0.75, 1.2) + random.uniform(-12, 12, 3), 0, 255)
        # Up to a fifth of a thing may lie outside the picture.
        top = int(random.integers(-height // 5, SIDE - height + height // 5 + 1))
        left = int(random.integers(-width // 5, SIDE - width + width // 5 + 1))
        rows, columns = slice(max(0, top), min(SIDE, top + height)), slice(max(0, left), min(SIDE, left + width))
        part_HW4 = rgba_HW4[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
        alpha_HW1 = part_HW4[..., 3:] / 255
        pixels_HW3[rows, columns] += (part_HW4[..., :3] - pixels_HW3[rows, columns]) * alpha_HW1
        solid_HW = alpha_HW1[..., 0] > 0.5
        mask_HW[rows, columns][solid_HW] = BACKGROUND_CLASSES + number
        instances_HW[rows, columns][solid_HW] = index
        if solid_HW.mean() * solid_HW.size < 400:
            return None
        name = cutout.names[0] if random.random() < 0.7 else str(random.choice(cutout.names))
        centre = (left + width / 2) / SIDE
        return name, "on the left" if centre < 0.35 else "on the right" if centre > 0.65 else "in the middle"


def caption(things: Sequence[tuple[str, str]], behind: str | None, under: str, random: np.random.Generator) -> str:
    """One of many ways to say what is there."""
    style = random.random()
    names = [name for name, _ in things]
    if style < 0.2:
        return ", ".join([*names, *filter(None, (behind, under))])
    placed = [
        f"{article(name)} {place}" if len(things) > 1 or random.random() < 0.3 else article(name)
        for name, place in things
    ]
    said = " and ".join(filter(None, [", ".join(placed[:-1]), *placed[-1:]]))
    ground = f"{random.choice(UNDER_WORDS.get(under, ('on', 'on the')))} {under}"
    back = f"{random.choice(BEHIND_WORDS.get(behind, ('in front of',)))} {article(behind)}" if behind else ""
    if not said:
        said, ground = under, ""
    sentence = " ".join(filter(None, (said, ground, back)))
    return f"a photo of {sentence}" if style < 0.5 else sentence


def article(name: str) -> str:
    """``name`` with *a* or *an*; kinds of stuff have none."""
    if name in ("sky", "water", "grass", "sand", "snow", "rock", "wood", "grapes", "binoculars", "pliers", "corn"):
        return name if name != "sky" else "the sky"
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _sky_first(words: Sequence[str]) -> np.ndarray:
    upper = [word for word in words if word in UPPER]
    weights = np.array([3.0 if word == "sky" else 1.0 for word in upper])
    return weights / weights.sum()


def _edge(random: np.random.Generator) -> np.ndarray:
    """1 below a wavy horizon, 0 above, soft over a few pixels; ``float32`` S×S."""
    columns = np.linspace(0, 2 * np.pi, SIDE)
    height = SIDE * random.uniform(0.25, 0.75)
    for frequency in (0.5, 1.5, 4):
        height = height + SIDE * random.uniform(0, 0.04) * np.sin(columns * frequency + random.uniform(0, 2 * np.pi))
    below = (np.arange(SIDE)[:, None] - height[None, :]) / random.uniform(1, 8)
    return np.clip(below + 0.5, 0, 1).astype(np.float32)


def _receding(material_HW3: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Ground seen at a slant: finer and narrower towards the top."""
    if random.random() < 0.3:
        return material_HW3
    inset = SIDE * random.uniform(0.1, 0.35)
    source = np.array([[inset, 0], [SIDE - inset, 0], [SIDE, SIDE], [0, SIDE]], np.float32)
    target = np.array([[0, 0], [SIDE, 0], [SIDE, SIDE], [0, SIDE]], np.float32)
    tiled = np.tile(material_HW3[::2, ::2], (2, 2, 1))
    return cv2.warpPerspective(
        tiled, cv2.getPerspectiveTransform(target, source), (SIDE, SIDE), borderMode=cv2.BORDER_REFLECT
    )


def _light(pixels_HW3: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Brightness, contrast, colour of the light, blur."""
    pixels_HW3 = (pixels_HW3 - 128) * random.uniform(0.75, 1.2) + 128 + random.uniform(-25, 25)
    pixels_HW3 = np.clip(pixels_HW3 * random.uniform(0.92, 1.08, 3), 0, 255).astype(np.uint8)
    if random.random() < 0.3:
        pixels_HW3 = cv2.GaussianBlur(pixels_HW3, (0, 0), random.uniform(0.5, 1.6))
    return pixels_HW3


@lru_cache(maxsize=512)
def _picture(path: Path) -> np.ndarray:
    """RGB ``uint8``, at most 512 pixels a side; what is transparent shows a light sky."""
    with Image.open(path) as image:
        rgba = image.convert("RGBA")
    flat = Image.alpha_composite(Image.new("RGBA", rgba.size, (200, 215, 235, 255)), rgba).convert("RGB")
    flat.thumbnail((512, 512))
    return np.asarray(flat)


@lru_cache(maxsize=512)
def _cutout(path: Path) -> np.ndarray:
    """RGBA ``uint8``, cropped to what is there."""
    with Image.open(path) as image:
        rgba = image.convert("RGBA")
    box = Image.fromarray(np.asarray(rgba)[..., 3] > 128).getbbox()
    return np.asarray(rgba.crop(box) if box else rgba)
