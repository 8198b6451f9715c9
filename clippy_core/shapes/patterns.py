"""What is on the surface of a thing: two colours that alternate, or one that is lit.

Patterns are fixed to the thing: they turn, stretch and shrink with it. Each says where in a box the second colour is,
as ``bool`` or a share in 0…1.

Shapes: h, w pixel of the box around a thing; x and y are the thing's own coordinates, −1…1.
"""

from collections.abc import Callable

import numpy as np

Rng = np.random.Generator
Pattern = Callable[[np.ndarray, np.ndarray, np.float32, np.float32], np.ndarray]


def _striped(x: np.ndarray, y: np.ndarray, turns: np.float32, phase: np.float32) -> np.ndarray:
    return np.sin(turns * x + phase) > 0


def _banded(x: np.ndarray, y: np.ndarray, turns: np.float32, phase: np.float32) -> np.ndarray:
    return np.sin(turns * y + phase) > 0.2


def _planked(x: np.ndarray, y: np.ndarray, turns: np.float32, phase: np.float32) -> np.ndarray:
    return np.sin(2 * turns * y + phase) > 0.55


def _spotted(x: np.ndarray, y: np.ndarray, turns: np.float32, phase: np.float32) -> np.ndarray:
    return np.sin(turns * x + phase) * np.sin(turns * y + phase) > 0.35


def _dotted(x: np.ndarray, y: np.ndarray, turns: np.float32, phase: np.float32) -> np.ndarray:
    return np.sin(2 * turns * x + phase) * np.sin(2 * turns * y + phase) > 0.4


def _checked(x: np.ndarray, y: np.ndarray, turns: np.float32, phase: np.float32) -> np.ndarray:
    return (np.sin(turns * x) > 0) ^ (np.sin(turns * y) > 0)


def _latticed(x: np.ndarray, y: np.ndarray, turns: np.float32, phase: np.float32) -> np.ndarray:
    return (np.sin(turns * (x + y) + phase) > 0.6) | (np.sin(turns * (x - y) + phase) > 0.6)


def _bricked(x: np.ndarray, y: np.ndarray, turns: np.float32, phase: np.float32) -> np.ndarray:
    rows = y * turns
    return (rows % 1 < 0.25) | ((x * turns * 0.6 + 0.5 * (np.floor(rows) % 2)) % 1 < 0.18)


def _rayed(x: np.ndarray, y: np.ndarray, turns: np.float32, phase: np.float32) -> np.ndarray:
    return np.sin(10 * np.arctan2(y, x) + phase) > 0


def _ringed(x: np.ndarray, y: np.ndarray, turns: np.float32, phase: np.float32) -> np.ndarray:
    return np.sin(1.6 * turns * np.hypot(x, y) + phase) > 0


def _twisted(x: np.ndarray, y: np.ndarray, turns: np.float32, phase: np.float32) -> np.ndarray:
    return np.sin(6 * np.arctan2(y, x) + 7 * np.hypot(x, y) + phase) > 0


def _scaled(x: np.ndarray, y: np.ndarray, turns: np.float32, phase: np.float32) -> np.ndarray:
    return np.sin(1.8 * turns * x + 1.5 * np.abs(np.sin(1.5 * turns * y)) + phase) > 0.3


def _veined(x: np.ndarray, y: np.ndarray, turns: np.float32, phase: np.float32) -> np.ndarray:
    return np.sin(1.6 * turns * (y + np.abs(x)) + phase) > 0.6


def _chevroned(x: np.ndarray, y: np.ndarray, turns: np.float32, phase: np.float32) -> np.ndarray:
    return np.sin(turns * (x + np.abs(y)) + phase) > 0


def _mottled(x: np.ndarray, y: np.ndarray, turns: np.float32, phase: np.float32) -> np.ndarray:
    waves = np.sin(2.1 * turns * x + phase) + np.sin(1.7 * turns * y - phase) + np.sin(1.3 * turns * (x - y))
    return np.clip(0.3 * waves, 0, 0.6)


def _glowing(x: np.ndarray, y: np.ndarray, turns: np.float32, phase: np.float32) -> np.ndarray:
    return np.clip(np.hypot(x, y), 0, 1)


PATTERNS: dict[str, Pattern] = {
    "striped": _striped,
    "banded": _banded,
    "planked": _planked,
    "spotted": _spotted,
    "dotted": _dotted,
    "checked": _checked,
    "latticed": _latticed,
    "bricked": _bricked,
    "rayed": _rayed,
    "ringed": _ringed,
    "twisted": _twisted,
    "scaled": _scaled,
    "veined": _veined,
    "chevroned": _chevroned,
    "mottled": _mottled,
    "glowing": _glowing,
}
COMMON = ("plain", "shaded", "striped", "spotted", "checked")
"""What any thing can have on it."""


def paint(
    pattern: str,
    local_2hw: tuple[np.ndarray, np.ndarray],
    colour_311: np.ndarray,
    other_311: np.ndarray,
    frequency: float,
    phase: float,
) -> np.ndarray:
    """Colours of a box, shape (3, h, w): a pattern of the two, or, for ``plain`` and ``shaded``, the first one lit."""
    x_hw, y_hw = local_2hw
    if pattern in ("plain", "shaded"):
        shade_hw = np.float32(0.92) - (x_hw + y_hw) * np.float32(0.18 if pattern == "shaded" else 0.04)
        return shade_hw * colour_311
    mix_hw = PATTERNS[pattern](x_hw, y_hw, np.float32(frequency * np.pi), np.float32(phase))
    if mix_hw.dtype == bool:
        return np.where(mix_hw, other_311, colour_311)
    return colour_311 + mix_hw * (other_311 - colour_311)
