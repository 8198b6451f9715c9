"""Looking at a large picture through overlapping windows.

Every window gives features on its own part of one common grid; where windows overlap, their unit features are
averaged. Cosine with a label is linear in the feature, so this is the same as averaging the windows' logit grids, and
it is done before any upsampling: one label map is computed at the end, however many windows there were.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from clippy_core.segmentation.options import Windows

WINDOW_BATCH = 8


def window_starts(length: int, window: int, stride: int) -> list[int]:
    """Where windows begin along one side: every ``stride`` pixels, the last one flush with the end."""
    if length <= window:
        return [0]
    return [*range(0, length - window, stride), length - window]


def window_features(
    pixels_3HW: Tensor, windows: Windows, cell: int, encode: Callable[[Tensor], Tensor]
) -> tuple[Tensor, tuple[int, int]]:
    """Features of a picture seen through windows, averaged on the common grid.

    Args:
        pixels_3HW: The normalised picture; both sides are multiples of ``cell``.
        windows: Window and stride, multiples of ``cell``.
        cell: Pixels per grid cell.
        encode: Unit features (B, p, D) of a batch of crops.

    Returns:
        Features (P, D), ``float32``, not normalised again, and the grid (h, w).
    """
    _, height, width = pixels_3HW.shape
    grid = height // cell, width // cell
    total_hwD: Tensor | None = None
    count_hw1 = torch.zeros(*grid, 1, device=pixels_3HW.device)
    for corners in _batches(height, width, windows):
        crops = torch.stack([pixels_3HW[:, y : y + windows.window, x : x + windows.window] for y, x in corners])
        rows, columns = crops.shape[-2] // cell, crops.shape[-1] // cell
        features_BpD = encode(crops)
        if total_hwD is None:
            total_hwD = features_BpD.new_zeros(*grid, features_BpD.shape[-1])
        for (y, x), features_pD in zip(corners, features_BpD, strict=True):
            part = slice(y // cell, y // cell + rows), slice(x // cell, x // cell + columns)
            total_hwD[part] += features_pD.view(rows, columns, -1)
            count_hw1[part] += 1
    assert total_hwD is not None, "every picture has at least one window"
    return (total_hwD / count_hw1).flatten(0, 1), grid


def _batches(height: int, width: int, windows: Windows) -> Iterator[list[tuple[int, int]]]:
    corners = [
        (y, x)
        for y in window_starts(height, windows.window, windows.stride)
        for x in window_starts(width, windows.window, windows.stride)
    ]
    for first in range(0, len(corners), WINDOW_BATCH):
        yield corners[first : first + WINDOW_BATCH]
