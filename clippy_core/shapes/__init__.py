"""The built-in procedural world: textured things on stuff, with captions and the truth about every pixel.

A scene is a pure function of a seed and a number, so a data set of any length needs no file. One to four things of
sixteen kinds lie on one or two of ten kinds of stuff. Kinds share typical colours in pairs, each has a pattern of its
own, and half of the captions leave the ground out. Captions are all that a model is trained on; masks are there to
measure it.

Shapes: H = W pixel.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from clippy_core.errors import ConfigError
from clippy_core.shapes import captions, stuff, things

THINGS: tuple[str, ...] = tuple(thing.name for thing in things.THINGS)
STUFF: tuple[str, ...] = tuple(stuff.STUFF)
CLASSES: tuple[str, ...] = THINGS + STUFF
"""What a pixel can be; things first."""

MIN_SIZE, MAX_SIZE = 32, 512
_COUNTS = np.array([0.4, 0.8, 0.95, 1.0])
"""Cumulative probabilities of one, two, three and four things."""


@dataclass(frozen=True)
class Scene:
    """A picture and the truth about it.

    Attributes:
        pixels_HW3: RGB, ``uint8``.
        mask_HW: Index into :data:`CLASSES` of every pixel, ``uint8``.
        instances_HW: 0 where there is stuff, else the number of the thing, from 1; ``uint8``.
        caption: One line that names what is there, or some of it.
    """

    pixels_HW3: np.ndarray
    mask_HW: np.ndarray
    instances_HW: np.ndarray
    caption: str


def scene(number: int, *, seed: int = 0, size: int = 64) -> Scene:
    """The scene of that number in the world of that seed; the same things in the same places at every size.

    Raises:
        ConfigError: A negative number or seed, or a size outside 32…512 pixels.
    """
    if number < 0 or seed < 0:
        raise ConfigError(f"scene {number} of seed {seed}: both must be 0 or more")
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise ConfigError(f"a scene of {size} pixels a side; accepted: {MIN_SIZE} to {MAX_SIZE}")
    rng = np.random.Generator(np.random.PCG64((seed, number)))
    pixels_3HW, mask_HW, grounds = _ground(rng, size)
    instances_HW = np.zeros((size, size), np.uint8)
    seen = []
    for instance, (x, y, radius) in enumerate(_places(rng), start=1):
        kind = int(rng.integers(len(THINGS)))
        if seen and rng.random() < 0.15:
            kind = seen[-1].kind  # so that captions can count
        look = things.draw(things.THINGS[kind], rng, pixels_3HW, (x, y), radius)
        _mark(look.covered_hw, look.corner, kind, instance, mask_HW, instances_HW)
        seen.append(captions.Mention(kind, look.colour, look.pattern, x, y))
    caption = captions.write(rng, seen, grounds)
    return Scene(_exposed(rng, pixels_3HW), mask_HW, instances_HW, caption)


def _ground(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """One kind of stuff, or two that meet at a wavy line: pixels (``float32``), mask, and names."""
    names = [STUFF[index] for index in rng.permutation(len(STUFF))[:2]]
    if names[1] == "sky":
        names.reverse()
    if rng.random() < 0.45:
        name = names[0]
        mask_HW = np.full((size, size), CLASSES.index(name), np.uint8)
        return stuff.paint(name, rng, size), mask_HW, [name]
    upper_3HW, lower_3HW = (stuff.paint(name, rng, size) for name in names)
    border_W = rng.uniform(0.3, 0.65) + rng.uniform(0, 0.06) * stuff.noise(rng, 1, 5, size)[0]
    below_HW = (np.arange(size, dtype=np.float32)[:, None] + 0.5) / size > border_W
    if names[0] != "sky" and rng.random() < 0.25:
        below_HW = below_HW.T
    pixels_3HW = np.where(below_HW, lower_3HW, upper_3HW)
    upper, lower = (CLASSES.index(name) for name in names)
    return pixels_3HW, np.where(below_HW, lower, upper).astype(np.uint8), names


def _places(rng: np.random.Generator) -> list[tuple[float, float, float]]:
    """Centres and radii of one to four things, as fractions of the side; they may overlap, but not much."""
    count = int(np.searchsorted(_COUNTS, rng.random())) + 1
    largest = (0.46, 0.38, 0.3, 0.26)[count - 1]
    places: list[tuple[float, float, float]] = []
    for _ in range(8 * count):
        x, y, radius = rng.uniform(0.14, 0.86), rng.uniform(0.14, 0.86), rng.uniform(0.55, 1.0) * largest
        if all((x - x2) ** 2 + (y - y2) ** 2 > (0.75 * (radius + r2)) ** 2 for x2, y2, r2 in places):
            places.append((x, y, radius))
        if len(places) == count:
            break
    return places


def _mark(
    covered_hw: np.ndarray,
    corner: tuple[int, int],
    kind: int,
    instance: int,
    mask_HW: np.ndarray,
    instances_HW: np.ndarray,
) -> None:
    row, column = corner
    height, width = covered_hw.shape
    mask_HW[row : row + height, column : column + width][covered_hw] = kind
    instances_HW[row : row + height, column : column + width][covered_hw] = instance


def _exposed(rng: np.random.Generator, pixels_3HW: np.ndarray) -> np.ndarray:
    """Light, contrast and the camera's noise, as ``uint8`` with the colours last."""
    grain_HW = rng.uniform(2, 7) * stuff.noise(rng, 64, 64, pixels_3HW.shape[-1])
    contrast, light = rng.uniform(0.8, 1.15), rng.uniform(-18, 18)
    exposed_3HW = pixels_3HW * np.float32(contrast) + (grain_HW + np.float32(light + 128 * (1 - contrast)))
    return cv2.merge(list(np.clip(exposed_3HW, 0, 255).astype(np.uint8)))
