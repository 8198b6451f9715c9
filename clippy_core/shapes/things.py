"""Things with a shape: silhouettes of simple parts, each with colours and patterns.

Shapes: h, w pixel of the box around a thing; outlines have the thing's own coordinates, −1…1, y downwards.
"""

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import NamedTuple

import cv2
import numpy as np

from clippy_core.shapes.patterns import COMMON, paint

Rng = np.random.Generator

COLOURS = {
    "red": (200, 45, 40),
    "orange": (230, 130, 35),
    "yellow": (230, 205, 60),
    "green": (65, 150, 60),
    "blue": (50, 90, 190),
    "purple": (125, 65, 165),
    "pink": (235, 140, 175),
    "white": (235, 235, 230),
    "brown": (115, 75, 45),
    "black": (40, 40, 45),
}
_NAMES = tuple(COLOURS)
TYPICAL = 0.95
"""How often a thing has a colour, and a pattern, that is typical of its kind; otherwise it has any."""


class Part(NamedTuple):
    """A part of a thing.

    Attributes:
        outlines: Closed outlines, each N×2; what lies inside an even number of them is a hole.
        colour: ``main`` (with the thing's pattern), ``second``, or a name in :data:`COLOURS`.
    """

    outlines: tuple[np.ndarray, ...]
    colour: str = "main"


class Thing(NamedTuple):
    """A kind of thing.

    Attributes:
        name: What it is called.
        plural: What several are called.
        parts: From the back to the front.
        pattern: What it typically has on it, a name in :data:`~clippy_core.shapes.patterns.PATTERNS`.
        turn: How far it may be turned either way, in degrees.
        colours: Its typical colours.
    """

    name: str
    plural: str
    parts: tuple[Part, ...]
    pattern: str
    turn: float
    colours: tuple[str, ...]


class Look(NamedTuple):
    """How a thing came out.

    Attributes:
        covered_hw: Which pixels of its box it covers, ``bool``.
        corner: Row and column of the box's first pixel.
        colour: Name of its main colour.
        pattern: Name of its pattern.
    """

    covered_hw: np.ndarray
    corner: tuple[int, int]
    colour: str
    pattern: str


def draw(thing: Thing, rng: Rng, pixels_3HW: np.ndarray, centre: tuple[float, float], radius: float) -> Look:
    """Draw a thing over a picture in place.

    Args:
        thing: Which.
        rng: Decides angle, proportions, colours and pattern.
        pixels_3HW: ``float32`` RGB of a square picture; changed.
        centre: x and y, as fractions of the side.
        radius: Half the extent, as a fraction of the side.
    """
    size = pixels_3HW.shape[-1]
    turn_22 = _turn(rng, thing.turn) * (radius * size)
    middle_2 = np.array(centre) * size
    colours = thing.colours if rng.random() < TYPICAL else _NAMES
    main, second = colours[rng.integers(len(colours))], _NAMES[rng.integers(len(_NAMES))]
    if second == main:
        second = _NAMES[(_NAMES.index(main) + 1) % len(_NAMES)]
    pattern = thing.pattern if rng.random() < TYPICAL else COMMON[rng.integers(len(COMMON))]
    jitter_3 = rng.uniform(-22, 22, 3)
    frequency, phase = rng.uniform(2.2, 3.4), rng.uniform(0, 2 * np.pi)

    (top, bottom), (left, right) = _box(middle_2, turn_22, size)
    box_3hw = pixels_3HW[:, top:bottom, left:right]
    covered_hw = np.zeros(box_3hw.shape[1:], bool)
    local_2hw = _local(turn_22, middle_2, (top, bottom), (left, right))
    for role, parts in groupby(thing.parts, key=lambda part: part.colour):
        alpha_hw = _silhouette(parts, turn_22, middle_2 - (left, top), covered_hw.shape)
        colour_311 = _rgb({"main": main, "second": second}.get(role, role), jitter_3)
        other_311 = _rgb(second, jitter_3) if role == "main" else colour_311
        drawn = pattern if role == "main" else "shaded"
        colour_3hw = paint(drawn, local_2hw, colour_311, other_311, frequency, phase)
        box_3hw += (colour_3hw - box_3hw) * (alpha_hw * np.float32(1 / 255))
        covered_hw |= alpha_hw > 127
    return Look(covered_hw, (top, left), main, pattern)


def _silhouette(parts: Iterable[Part], turn_22: np.ndarray, middle_2: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """How much of each pixel of the box the parts cover, 0…255, ``uint8``.

    OpenCV takes positions in sixteenths of a pixel, with the centres of pixels at whole numbers.
    """
    alpha_hw = np.zeros(shape, np.uint8)
    to_fixed_22, middle_2 = 16 * turn_22.T, 16 * (middle_2 - 0.5)
    for part in parts:
        fixed = [np.rint(outline @ to_fixed_22 + middle_2).astype(np.int32) for outline in part.outlines]
        cv2.fillPoly(alpha_hw, fixed, 255, cv2.LINE_AA, 4)
    return alpha_hw


def _turn(rng: Rng, most: float) -> np.ndarray:
    """A 2×2 map from a thing's coordinates to the picture's: turned, mirrored, stretched a little."""
    angle = np.deg2rad(rng.uniform(-most, most))
    cosine, sine = np.cos(angle), np.sin(angle)
    mirror = 1 if rng.random() < 0.5 else -1
    stretch = rng.uniform(0.85, 1.0, 2)
    return np.array([[cosine, -sine], [sine, cosine]]) * stretch * (mirror, 1)


def _box(middle_2: np.ndarray, turn_22: np.ndarray, size: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Rows and columns that the square −1…1 covers, inside the picture."""
    (a, b), (c, d) = np.abs(turn_22).tolist()
    x, y = middle_2.tolist()
    (left, right), (top, bottom) = (
        (max(int(middle - reach - 1), 0), min(int(middle + reach + 2), size))
        for middle, reach in ((x, a + b), (y, c + d))
    )
    return (top, bottom), (left, right)


def _local(
    turn_22: np.ndarray, middle_2: np.ndarray, rows: tuple[int, int], columns: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """The thing's own coordinates of every pixel of the box."""
    x_1w = (np.arange(*columns, dtype=np.float32) + np.float32(0.5 - middle_2[0]))[None, :]
    y_h1 = (np.arange(*rows, dtype=np.float32) + np.float32(0.5 - middle_2[1]))[:, None]
    (a, b), (c, d) = (turn_22 / (turn_22[0, 0] * turn_22[1, 1] - turn_22[0, 1] * turn_22[1, 0])).astype(np.float32)
    return d * x_1w - b * y_h1, a * y_h1 - c * x_1w


def _rgb(name: str, jitter_3: np.ndarray) -> np.ndarray:
    return np.maximum(jitter_3 + COLOURS[name], 0).astype(np.float32)[:, None, None]


def _ellipse(x: float, y: float, across: float, down: float, count: int = 24) -> np.ndarray:
    angles_N = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return np.stack([x + across * np.cos(angles_N), y + down * np.sin(angles_N)], 1)


def _polygon(*points: tuple[float, float]) -> np.ndarray:
    return np.array(points)


def _rectangle(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    return _polygon((left, top), (right, top), (right, bottom), (left, bottom))


def _star(points: int, inner: float) -> np.ndarray:
    angles_N = np.pi * (np.arange(2 * points) / points - 0.5)
    radii_N = np.where(np.arange(2 * points) % 2, inner, 1.0)
    return np.stack([radii_N * np.cos(angles_N), radii_N * np.sin(angles_N)], 1)


def _heart() -> np.ndarray:
    t_N = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    y_N = 13 * np.cos(t_N) - 5 * np.cos(2 * t_N) - 2 * np.cos(3 * t_N) - np.cos(4 * t_N)
    return np.stack([np.sin(t_N) ** 3, -(y_N + 2.5) / 16], 1)


def _crescent() -> np.ndarray:
    outer_N = np.linspace(-0.72 * np.pi, 0.72 * np.pi, 20)
    tip_x, tip_y = np.cos(outer_N[-1]), np.sin(outer_N[-1])
    radius = np.hypot(tip_x + 0.25, tip_y)
    end = np.arctan2(tip_y, tip_x + 0.25)
    inner_N = np.linspace(end, -end, 14)[1:-1]
    back = np.stack([radius * np.cos(inner_N) * 0.82 - 0.42, radius * np.sin(inner_N)], 1)
    return np.concatenate([np.stack([np.cos(outer_N), np.sin(outer_N)], 1), back])


def _lens(across: float) -> np.ndarray:
    y_N = np.linspace(-1, 1, 12)
    x_N = across * (1 - y_N**2)
    return np.concatenate([np.stack([x_N, y_N], 1), np.stack([-x_N, y_N], 1)[-2:0:-1]])


def _cloud(*circles: tuple[float, float, float]) -> tuple[Part, ...]:
    return tuple(Part((_ellipse(x, y, radius, radius, 16),)) for x, y, radius in circles)


def _petals(count: int) -> Sequence[tuple[float, float, float]]:
    angles = [2 * np.pi * index / count for index in range(count)]
    return [(0.62 * np.cos(angle), 0.62 * np.sin(angle), 0.38) for angle in angles]


_FREE = 60.0
_PLUS = _polygon(
    *((-0.32, -1), (0.32, -1), (0.32, -0.32), (1, -0.32), (1, 0.32), (0.32, 0.32)),
    *((0.32, 1), (-0.32, 1), (-0.32, 0.32), (-1, 0.32), (-1, -0.32), (-0.32, -0.32)),
)
_ARROW = _polygon((-1, -0.28), (0.1, -0.28), (0.1, -0.8), (1, 0), (0.1, 0.8), (0.1, 0.28), (-1, 0.28))
_CAR = _polygon((-1, 0), (-0.62, -0.08), (-0.4, -0.55), (0.35, -0.55), (0.65, -0.08), (1, 0.02), (1, 0.42), (-1, 0.42))
_CAR_WINDOWS = (
    _polygon((-0.45, -0.1), (-0.3, -0.42), (-0.05, -0.42), (-0.05, -0.1)),
    _polygon((0.05, -0.1), (0.05, -0.42), (0.28, -0.42), (0.47, -0.1)),
)

THINGS: tuple[Thing, ...] = (
    Thing(
        "ball",
        "balls",
        (Part((_ellipse(0, 0, 1, 1),)),),
        "striped",
        _FREE,
        ("blue",),
    ),
    Thing("star", "stars", (Part((_star(5, 0.45),)),), "ringed", _FREE, ("yellow",)),
    Thing(
        "ring",
        "rings",
        (Part((_ellipse(0, 0, 1, 1), _ellipse(0, 0, 0.52, 0.52))),),
        "twisted",
        180,
        ("white",),
    ),
    Thing("cross", "crosses", (Part((_PLUS,)),), "latticed", 45, ("red",)),
    Thing("heart", "hearts", (Part((_heart(),)),), "dotted", 30, ("pink",)),
    Thing("moon", "moons", (Part((_crescent(),)),), "glowing", _FREE, ("blue",)),
    Thing(
        "house",
        "houses",
        (
            Part((_rectangle(-0.78, -0.15, 0.78, 1),)),
            Part((_polygon((-1, -0.1), (0, -1), (1, -0.1)),), "second"),
            Part((_rectangle(-0.55, 0.3, -0.1, 1),), "brown"),
            Part((_rectangle(0.2, 0.2, 0.6, 0.6),), "yellow"),
        ),
        "bricked",
        10,
        ("brown",),
    ),
    Thing(
        "tree",
        "trees",
        (
            Part((_rectangle(-0.16, 0.1, 0.16, 1),), "brown"),
            *_cloud((-0.42, -0.05, 0.45), (0.42, -0.05, 0.45), (0, -0.5, 0.5), (0, 0, 0.4)),
        ),
        "mottled",
        12,
        ("green",),
    ),
    Thing(
        "car",
        "cars",
        (
            Part((_CAR,)),
            Part(_CAR_WINDOWS, "white"),
            Part((_ellipse(-0.52, 0.45, 0.27, 0.27, 12), _ellipse(0.52, 0.45, 0.27, 0.27, 12)), "black"),
        ),
        "shaded",
        12,
        ("red",),
    ),
    Thing(
        "boat",
        "boats",
        (
            Part((_polygon((-1, 0.4), (1, 0.4), (0.6, 0.95), (-0.6, 0.95)),)),
            Part((_rectangle(-0.07, -1, 0.07, 0.4),), "brown"),
            Part((_polygon((0.07, -0.95), (0.9, 0.4), (0.07, 0.4)),), "second"),
            Part((_polygon((-0.07, -0.7), (-0.07, 0.4), (-0.7, 0.4)),), "second"),
        ),
        "planked",
        15,
        ("orange",),
    ),
    Thing(
        "fish",
        "fish",
        (
            Part((_polygon((0.35, 0), (1, -0.55), (0.85, 0), (1, 0.55)),), "second"),
            Part((_ellipse(-0.22, 0, 0.78, 0.5),)),
            Part((_ellipse(-0.65, -0.12, 0.09, 0.09, 8),), "black"),
        ),
        "scaled",
        35,
        ("orange",),
    ),
    Thing(
        "leaf",
        "leaves",
        (Part((_lens(0.58),)), Part((_polygon((-0.05, -0.85), (0.05, -0.85), (0.08, 1), (-0.08, 1)),), "second")),
        "veined",
        _FREE,
        ("green",),
    ),
    Thing(
        "cup",
        "cups",
        (
            Part((_ellipse(0.55, 0.05, 0.45, 0.5), _ellipse(0.55, 0.05, 0.24, 0.28))),
            Part((_polygon((-0.9, -0.8), (0.6, -0.8), (0.42, 0.9), (-0.72, 0.9)),)),
            Part((_ellipse(-0.15, -0.8, 0.75, 0.17),), "black"),
        ),
        "banded",
        18,
        ("white",),
    ),
    Thing(
        "mushroom",
        "mushrooms",
        (
            Part((_polygon((-0.25, 0), (0.25, 0), (0.35, 1), (-0.35, 1)),), "white"),
            Part((np.concatenate([_ellipse(0, 0.15, 1, 1.1)[12:], [[1, 0.15]]]),)),
        ),
        "spotted",
        18,
        ("pink",),
    ),
    Thing(
        "flower",
        "flowers",
        (*_cloud(*_petals(6)), Part((_ellipse(0, 0, 0.34, 0.34, 12),), "second")),
        "rayed",
        _FREE,
        ("purple",),
    ),
    Thing("arrow", "arrows", (Part((_ARROW,)),), "chevroned", _FREE, ("black",)),
)
