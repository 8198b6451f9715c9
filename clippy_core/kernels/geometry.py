"""Where output pixels fall between patch centres: the integer bookkeeping that every implementation shares.

H/W output pixels, h/w patch grid. Along one axis, pixel ``p`` of ``n_out`` lies at patch coordinate
``(p + 0.5) * n_in / n_out - 0.5``, clamped to ``[0, n_in - 1]`` (``align_corners=False``). Two neighbouring patch
centres bound a *cell*; pixel ``p`` belongs to cell ``floor(coordinate)`` and lies a fraction ``t`` of the way
through it. Coordinates come from exact integers, so no pixel lands in the wrong cell by rounding.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np


@dataclass(frozen=True, eq=False)
class Axis:
    """One axis of the output, cut into cells.

    Attributes:
        n_in: patches along the axis.
        n_out: pixels along the axis.
        cell: int64 (n_out,), the cell of each pixel, which is also its lower patch.
        t: float64 (n_out,), position inside the cell, 0 at the lower patch centre and 1 at the upper.
        start: int64 (cells + 1,), first pixel of each cell; equal neighbours mean an empty cell.
        low: first pixel that is not a copy of its successor: pixels before it are clamped to the same spot.
        high: last pixel that is not a copy of its predecessor.
    """

    n_in: int
    n_out: int
    cell: np.ndarray
    t: np.ndarray
    start: np.ndarray
    low: int
    high: int

    @property
    def cells(self) -> int:
        """Number of cells, at least one."""
        return max(self.n_in - 1, 1)

    @property
    def upper(self) -> np.ndarray:
        """int64 (n_out,), the upper patch of each pixel (the lower one again where there is a single patch)."""
        return np.minimum(self.cell + 1, self.n_in - 1)


@lru_cache(maxsize=128)
def axis(n_in: int, n_out: int) -> Axis:
    """Cut ``n_out`` pixels over ``n_in`` patches into cells; cached, because a folder run repeats few sizes."""
    twice = (2 * np.arange(n_out, dtype=np.int64) + 1) * n_in - n_out
    twice = np.clip(twice, 0, 2 * n_out * (n_in - 1))
    cell = np.minimum(twice // (2 * n_out), max(n_in - 2, 0))
    t = (twice - cell * 2 * n_out) / (2.0 * n_out)
    start = np.searchsorted(cell, np.arange(max(n_in - 1, 1) + 1))
    if n_in == 1:
        low = high = 0
    else:
        low = max(int(np.searchsorted(twice, 0, side="right")) - 1, 0)
        high = min(int(np.searchsorted(twice, 2 * n_out * (n_in - 1))), n_out - 1)
    for array in (cell, t, start):
        array.setflags(write=False)
    return Axis(n_in, n_out, cell, t, start, low, high)
