"""From numbers on a grid to colours on a picture.

Shapes: H/W pixel, h/w grid, P = h·w location, C component, N colour.
"""

from functools import cache

import cv2
import numpy as np

HEAT = 0.72
"""How much of a heat map's colour lies on the picture, 0…1."""
MAP = "inferno"


def fit(pixels_HW3: np.ndarray, side: int) -> np.ndarray:
    """A picture reduced such that its longer side has at most ``side`` pixels; smaller ones stay as they are."""
    height, width = pixels_HW3.shape[:2]
    scale = min(1.0, side / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return cv2.resize(pixels_HW3, size, interpolation=cv2.INTER_AREA) if scale < 1 else pixels_HW3.copy()


def enlarged(values_hw: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Values of a grid at the pixels of a picture of ``size`` (H, W), bilinear between the centres of cells."""
    return cv2.resize(values_hw.astype(np.float32), size[::-1], interpolation=cv2.INTER_LINEAR)


@cache
def heat_colours() -> np.ndarray:
    """RGB from cold to hot, ``uint8`` (256, 3), as matplotlib has them."""
    import matplotlib

    return (matplotlib.colormaps[MAP](np.arange(256))[:, :3] * 255).round().astype(np.uint8)


def heat(values_P: np.ndarray, grid: tuple[int, int], span: tuple[float, float], pixels_HW3: np.ndarray) -> np.ndarray:
    """A picture in grey with values of its grid over it, dark where they are low.

    Args:
        values_P: A value a location.
        grid: (h, w).
        span: The values that are darkest and brightest; what lies beyond looks like them.
        pixels_HW3: The picture.

    Returns:
        ``uint8`` RGB of the picture's size.
    """
    low, high = span
    shown_HW = enlarged(values_P.reshape(grid), pixels_HW3.shape[:2])
    level_HW = np.clip((shown_HW - low) / max(high - low, 1e-12), 0, 1)
    colours_HW3 = heat_colours()[np.rint(level_HW * 255).astype(np.uint8)]
    grey_HW3 = cv2.cvtColor(cv2.cvtColor(pixels_HW3, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return cv2.addWeighted(colours_HW3, HEAT, grey_HW3, 1 - HEAT, 0)


def cells(values_P: np.ndarray, grid: tuple[int, int], span: tuple[float, float], pixels_HW3: np.ndarray) -> np.ndarray:
    """As :func:`heat` for counts: every cell of the grid has one colour, so that single ones can be counted."""
    height, width = pixels_HW3.shape[:2]
    rows, columns = (np.arange(pixels) * count // pixels for pixels, count in zip((height, width), grid, strict=True))
    level_HW = np.clip((values_P.reshape(grid)[rows[:, None], columns] - span[0]) / max(span[1] - span[0], 1e-12), 0, 1)
    colours_HW3 = heat_colours()[np.rint(level_HW * 255).astype(np.uint8)]
    grey_HW3 = cv2.cvtColor(cv2.cvtColor(pixels_HW3, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return cv2.addWeighted(colours_HW3, HEAT, grey_HW3, 1 - HEAT, 0)


def component_colours(
    scores_PC: np.ndarray, span_C2: np.ndarray, grid: tuple[int, int], size: tuple[int, int]
) -> np.ndarray:
    """Three components as red, green and blue, ``uint8`` RGB of ``size`` (H, W).

    Args:
        scores_PC: Three components of every location.
        span_C2: For each component the values that are darkest and brightest.
        grid: (h, w).
        size: (H, W).
    """
    low_C, high_C = span_C2.T
    level_PC = np.clip((scores_PC - low_C) / np.maximum(high_C - low_C, 1e-12), 0, 1)
    level_PC = np.pad(level_PC, ((0, 0), (0, 3 - level_PC.shape[1])))  # a model may have fewer channels
    channels = [enlarged(level_PC[:, place].reshape(grid), size) for place in range(3)]
    return np.rint(np.stack(channels, -1) * 255).astype(np.uint8)


def marked(pixels_HW3: np.ndarray, x: float, y: float) -> np.ndarray:
    """A copy of a picture with a ring around a point, which is light with a dark rim."""
    picture_HW3 = pixels_HW3.copy()
    radius = max(4, min(picture_HW3.shape[:2]) // 40)
    for colour, width in (((0, 0, 0), max(3, radius // 2)), ((255, 255, 255), max(1, radius // 5))):
        cv2.circle(picture_HW3, (round(x), round(y)), radius, colour, width, cv2.LINE_AA)
    return picture_HW3


def montage(rows: list[list[np.ndarray]], cell: int, gap: int = 6) -> np.ndarray:
    """Pictures in rows on white, each fitted into a square of ``cell`` pixels; rows may differ in length."""
    columns = max(len(row) for row in rows)
    heights = [max(fit(picture, cell).shape[0] for picture in row) for row in rows]
    sheet_HW3 = np.full((sum(heights) + gap * (len(rows) + 1), columns * cell + gap * (columns + 1), 3), 255, np.uint8)
    top = gap
    for row, height in zip(rows, heights, strict=True):
        for place, picture in enumerate(row):
            small_HW3 = fit(picture, cell)
            left = gap + place * (cell + gap) + (cell - small_HW3.shape[1]) // 2
            upper = top + (height - small_HW3.shape[0]) // 2
            sheet_HW3[upper : upper + small_HW3.shape[0], left : left + small_HW3.shape[1]] = small_HW3
        top += height + gap
    return sheet_HW3
