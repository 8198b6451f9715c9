"""Textures without a shape: grass, sand, water and the like.

Every texture is a field of tones in about −1…1 that is coloured between a dark and a light colour of the stuff's own.
Colours of different stuff overlap; tones tell them apart.

Shapes: H = W pixel; coordinates run from 0 to 1 over the picture.
"""

from collections.abc import Callable

import cv2
import numpy as np

Rng = np.random.Generator
Texture = Callable[[Rng, np.ndarray, np.ndarray], np.ndarray]


def noise(rng: Rng, rows: int, columns: int, size: int) -> np.ndarray:
    """Smooth noise in −1…1 with that many bumps down and across, ``float32`` of shape (size, size)."""
    coarse = rng.random((rows, columns), np.float32) * 2 - 1
    return cv2.resize(coarse, (size, size), interpolation=cv2.INTER_LINEAR)


def paint(name: str, rng: Rng, size: int) -> np.ndarray:
    """A picture full of one stuff: RGB in about 0…255, ``float32`` of shape (3, size, size)."""
    texture, palettes = STUFF[name]
    middles = (np.arange(size, dtype=np.float32) + 0.5) / size
    tones_HW = texture(rng, middles[None, :], middles[:, None])
    dark_3, light_3 = _colours(rng, palettes)
    middle_3, reach_3 = (light_3 + dark_3) * 0.5, (light_3 - dark_3) * 0.5
    return tones_HW.astype(np.float32) * reach_3[:, None, None] + middle_3[:, None, None]


def _colours(rng: Rng, palettes: tuple[tuple[str, str], ...]) -> tuple[np.ndarray, np.ndarray]:
    if palettes:
        pair = palettes[rng.integers(len(palettes))]
        dark_3, light_3 = (np.array(list(bytes.fromhex(colour)), np.float32) for colour in pair)
    else:
        dark_3 = rng.uniform(20, 150, 3).astype(np.float32)
        light_3 = dark_3 + rng.uniform(30, 110, 3).astype(np.float32)
    shift_3 = rng.uniform(-16, 16, 3).astype(np.float32)
    return dark_3 + shift_3, light_3 + shift_3


def _wave(values: np.ndarray, cycles: float) -> np.ndarray:
    return np.sin(values * np.float32(2 * np.pi * cycles))


def _grass(rng: Rng, x_1W: np.ndarray, y_H1: np.ndarray) -> np.ndarray:
    """Upright blades."""
    size = x_1W.size
    return 0.9 * noise(rng, 7, 42, size) + 0.4 * noise(rng, 14, 64, size)


def _sand(rng: Rng, x_1W: np.ndarray, y_H1: np.ndarray) -> np.ndarray:
    """Fine grains."""
    size = x_1W.size
    return 0.9 * noise(rng, 64, 64, size) + 0.4 * noise(rng, 4, 4, size)


def _water(rng: Rng, x_1W: np.ndarray, y_H1: np.ndarray) -> np.ndarray:
    """Waves that lie flat."""
    size = x_1W.size
    bent_HW = y_H1 + 0.05 * noise(rng, 7, 4, size)
    return _wave(bent_HW, rng.uniform(8, 12)) * (0.55 + 0.45 * noise(rng, 8, 5, size))


def _sky(rng: Rng, x_1W: np.ndarray, y_H1: np.ndarray) -> np.ndarray:
    """Brighter towards the horizon, with soft clouds."""
    size = x_1W.size
    clouds_HW = noise(rng, 4, 3, size) + 0.5 * noise(rng, 9, 6, size)
    return 1.2 * y_H1 - 0.9 + np.maximum(clouds_HW, 0)


def _brick(rng: Rng, x_1W: np.ndarray, y_H1: np.ndarray) -> np.ndarray:
    """Courses of bricks, each a little different, in mortar."""
    courses = rng.uniform(7, 10)
    down_H1 = y_H1 * courses
    row_H1 = np.floor(down_H1)
    across_HW = x_1W * (courses / 2) + 0.5 * (row_H1 % 2) + rng.random()
    column_HW = np.floor(across_HW)
    tones = rng.random((12, 12), np.float32) - 0.6
    tones_HW = tones[row_H1.astype(np.intp) % 12, column_HW.astype(np.intp) % 12]
    mortar_HW = (down_H1 - row_H1 < 0.2) | (across_HW - column_HW < 0.1)
    return np.where(mortar_HW, np.float32(1.5), tones_HW)


def _snow(rng: Rng, x_1W: np.ndarray, y_H1: np.ndarray) -> np.ndarray:
    """Smooth drifts with a rare sparkle."""
    size = x_1W.size
    sparkle_HW = noise(rng, 40, 40, size)
    return 0.8 * noise(rng, 4, 3, size) + np.where(sparkle_HW > 0.8, 0.8, 0)


def _wood(rng: Rng, x_1W: np.ndarray, y_H1: np.ndarray) -> np.ndarray:
    """Grain along boards with gaps between them; upright or lying."""
    size = x_1W.size
    bent_HW = x_1W + 0.12 * noise(rng, 3, 5, size)
    boards = rng.uniform(3, 5)
    place_1W = x_1W * boards + rng.random()
    tones_HW = 0.6 * _wave(bent_HW, rng.uniform(10, 15)) + 0.3 * noise(rng, 4, 48, size)
    tones_HW = np.where(place_1W % 1 < 0.09, -1.5, tones_HW)
    return tones_HW if rng.random() < 0.5 else np.ascontiguousarray(tones_HW.T)


def _stone(rng: Rng, x_1W: np.ndarray, y_H1: np.ndarray) -> np.ndarray:
    """Cobbles, round and of different tones, with dark gaps."""
    size = x_1W.size
    across = int(rng.integers(5, 8))
    tones_HW = np.full((size, size), -1.0, np.float32)
    cell = 16 * size / across
    rows, columns = np.mgrid[-0.5 : across + 0.5, -0.5 : across + 0.5]
    centres_N2 = np.stack([columns + 0.5 * (rows.astype(np.intp) % 2), rows], -1).reshape(-1, 2)
    centres_N2 = centres_N2 + rng.uniform(-0.1, 0.1, centres_N2.shape)
    radii_N = rng.uniform(0.42, 0.56, len(centres_N2))
    tone_N = rng.uniform(-0.4, 1.0, len(centres_N2))
    for (x, y), radius, tone in zip((centres_N2 * cell).tolist(), (radii_N * cell).tolist(), tone_N, strict=True):
        cv2.circle(tones_HW, (round(x), round(y)), round(radius), float(tone), -1, cv2.LINE_8, 4)
    return tones_HW + 0.15 * noise(rng, 32, 32, size)


def _tiles(rng: Rng, x_1W: np.ndarray, y_H1: np.ndarray) -> np.ndarray:
    """A chequerboard."""
    across = rng.uniform(5, 8)
    column_1W, row_H1 = np.floor(x_1W * across + rng.random()), np.floor(y_H1 * across + rng.random())
    return np.where((column_1W + row_H1) % 2 == 0, -0.8, 0.8) + 0.15 * noise(rng, 16, 16, x_1W.size)


def _cloth(rng: Rng, x_1W: np.ndarray, y_H1: np.ndarray) -> np.ndarray:
    """Twill: fine slanted lines under wide bands."""
    cycles = rng.uniform(3, 5)
    bands_HW = _wave(x_1W + rng.random(), cycles) + _wave(y_H1 + rng.random(), cycles)
    return 0.4 * bands_HW + 0.5 * _wave(x_1W + y_H1, rng.uniform(13, 17))


STUFF: dict[str, tuple[Texture, tuple[tuple[str, str], ...]]] = {
    "grass": (_grass, (("285019", "78a546"), ("55551e", "a5a550"), ("19412d", "5a9664"))),
    "sand": (_sand, (("b99664", "ebd2a0"), ("967855", "cdb48c"), ("8c8478", "d2c8b9"))),
    "water": (_water, (("194678", "6ea5cd"), ("1e5a5f", "78b4aa"), ("46505f", "96a5b4"))),
    "sky": (_sky, (("5a96dc", "c3dcf5"), ("8291a5", "d7dce4"), ("c87846", "fad7a0"))),
    "brick": (_brick, (("8c3c2d", "c87d64"), ("785f4b", "be9b78"), ("69696e", "aaaaaf"))),
    "snow": (_snow, (("c8d2e1", "fafcff"), ("cdc8c8", "f8f4f0"), ("aab4c8", "e1ebfa"))),
    "wood": (_wood, (("5a371e", "a57346"), ("825f3c", "cdaa78"), ("463c37", "877869"))),
    "stone": (_stone, (("323237", "a5a5a5"), ("3c3228", "aa9682"), ("28373c", "8ca0a5"))),
    "tiles": (_tiles, ()),
    "cloth": (_cloth, ()),
}
"""Texture and pairs of a dark and a light colour (RGB in hexadecimal); without pairs, any two colours."""
