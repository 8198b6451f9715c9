"""Looking at a large picture through overlapping windows.

Every window gives features on its own part of one common grid; where windows overlap, their unit features are
averaged. Cosine with a label is linear in the feature, so this is the same as averaging the windows' logit grids, and
it is done before any upsampling: one label map is computed at the end, however many windows there were.
"""

import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from clippy_core.kernels.logits import is_torch
from clippy_core.model.engine import Array
from clippy_core.segmentation.options import Windows

WINDOW_BATCH = 8


def window_starts(length: int, window: int, stride: int) -> list[int]:
    """Where windows begin along one side: every ``stride`` pixels, the last one flush with the end."""
    if length <= window:
        return [0]
    return [*range(0, length - window, stride), length - window]


def window_features(
    pixels_3HW: Array, windows: Windows, cell: int, encode: Callable[[Array], Array]
) -> tuple[Array, tuple[int, int]]:
    """Features of a picture seen through windows, averaged on the common grid.

    Args:
        pixels_3HW: The normalised picture, numpy array or torch tensor; both sides are multiples of ``cell``.
        windows: Window and stride, multiples of ``cell``.
        cell: Pixels per grid cell.
        encode: Unit features (B, p, D) of a batch of crops, torch tensor or numpy array.

    Returns:
        Features (P, D), ``float32``, not normalised again, of the same library and device, and the grid (h, w).
    """
    _, height, width = pixels_3HW.shape
    grid = height // cell, width // cell
    total_hwD: Any = None
    count_hw1: Any = None
    for corners in _batches(height, width, windows):
        crops = _stack([pixels_3HW[:, y : y + windows.window, x : x + windows.window] for y, x in corners])
        rows, columns = crops.shape[-2] // cell, crops.shape[-1] // cell
        features_BpD = encode(crops)
        if total_hwD is None:
            total_hwD = _zeros(features_BpD, (*grid, features_BpD.shape[-1]))
            count_hw1 = _zeros(features_BpD, (*grid, 1))
        for (y, x), features_pD in zip(corners, features_BpD, strict=True):
            part = slice(y // cell, y // cell + rows), slice(x // cell, x // cell + columns)
            total_hwD[part] += features_pD.reshape(rows, columns, -1)
            count_hw1[part] += 1
    assert total_hwD is not None, "every picture has at least one window"
    return (total_hwD / count_hw1).reshape(grid[0] * grid[1], -1), grid


def _batches(height: int, width: int, windows: Windows) -> Iterator[list[tuple[int, int]]]:
    corners = [
        (y, x)
        for y in window_starts(height, windows.window, windows.stride)
        for x in window_starts(width, windows.window, windows.stride)
    ]
    for first in range(0, len(corners), WINDOW_BATCH):
        yield corners[first : first + WINDOW_BATCH]


def _stack(arrays: list[Array]) -> Array:
    return sys.modules["torch"].stack(arrays) if is_torch(arrays[0]) else np.stack(arrays)


def _zeros(like: Array, shape: tuple[int, ...]) -> Array:
    return like.new_zeros(shape) if is_torch(like) else np.zeros(shape, np.float32)
