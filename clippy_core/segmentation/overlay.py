"""The picture a person looks at: tinted by label, outlined, with names in place and a legend.

Everything scales with the picture, so that a thumbnail and a 50-megapixel photograph look alike. The label map is
simplified to at most 640 pixels for *placing* names; tint and outlines are drawn at full resolution, in bands of rows
that stay in the processor's cache and that threads share out among themselves.
"""

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from typing import NamedTuple, TypeAlias

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from clippy_core.segmentation.result import Segmentation

TINT = 0.5
BAND_ROWS = 128
RIM, LINE = (30, 30, 30), (255, 255, 255)
PLACING_SIZE = 640
MIN_REGION = 0.004
"""Regions below this share of the picture get no name in place; the legend still lists their label."""
MAX_LEGEND_ROWS = 16
FALLBACK_FONTS = ("NotoSansCJK-Regular.ttc", "NotoSans-Regular.ttf", "DejaVuSans.ttf", "Arial Unicode.ttf", "arial.ttf")
Font: TypeAlias = ImageFont.FreeTypeFont | ImageFont.ImageFont
Box: TypeAlias = tuple[float, float, float, float]


class Caption(NamedTuple):
    """A name and the point it is centred on, in pixels of the full picture."""

    label: int
    x: float
    y: float


def draw_overlay(result: Segmentation) -> np.ndarray:
    """Draw the overlay: H×W×3 ``uint8`` RGB, the size of the picture as displayed."""
    with ThreadPoolExecutor(1) as beside:
        captions = beside.submit(place_captions, result)
        pixels_HW3 = tint(result)
        outline(result.label_map, pixels_HW3)
    unit = max(10.0, min(result.height, result.width) / 32)
    taken = [_draw_legend(pixels_HW3, result, unit)]
    for caption in captions.result():
        _draw_caption(pixels_HW3, result, caption, unit, taken)
    return pixels_HW3


def tint(result: Segmentation) -> np.ndarray:
    """The picture blended with the colour of each pixel's label; background and undecided pixels stay as they are."""
    pixels_HW3, label_map = result.picture.pixels_HW3, result.label_map
    table = np.zeros((result.undecided + 1, 3), np.uint8)
    table[: len(result.labels)] = result.colours
    blended_HW3 = np.empty(pixels_HW3.shape, np.uint8)

    def tint_band(band: slice) -> None:
        plain_hW3, labels_hW, blended_hW3 = pixels_HW3[band], label_map[band], blended_HW3[band]
        cv2.addWeighted(plain_hW3, 1 - TINT, _look_up(table, labels_hW), TINT, 0, dst=blended_hW3)
        untouched_hW = labels_hW == result.undecided
        if result.has_background:
            untouched_hW |= labels_hW == 0
        if untouched_hW.any():
            cv2.copyTo(plain_hW3, untouched_hW.view(np.uint8), blended_hW3)

    _for_each_band(tint_band, result.height)
    return blended_HW3


def outline(label_map: np.ndarray, pixels_HW3: np.ndarray) -> None:
    """Draw a light line with a dark rim along every border between labels, in place."""
    height, width = label_map.shape
    reach = max(1, round(min(height, width) / 360))
    rim = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach * 2 + 1,) * 2)
    line = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach,) * 2)
    strokes = [
        (kernel, np.full((BAND_ROWS, width, 3), colour, np.uint8)) for kernel, colour in ((rim, RIM), (line, LINE))
    ]

    def outline_band(band: slice) -> None:
        # One row beyond the reach of the strokes: the first row here lacks its comparison with the one above.
        first = max(0, band.start - reach - 1)
        labels_hW = label_map[first : band.stop + reach]
        border_hW = np.zeros(labels_hW.shape, np.uint8)
        border_hW[:, 1:] |= labels_hW[:, 1:] != labels_hW[:, :-1]
        border_hW[1:] |= labels_hW[1:] != labels_hW[:-1]
        if not border_hW.any():
            return
        for kernel, colour_hW3 in strokes:
            stroke_hW = cv2.dilate(border_hW, kernel)[band.start - first :][: band.stop - band.start]
            cv2.copyTo(colour_hW3[: stroke_hW.shape[0]], stroke_hW, pixels_HW3[band])

    _for_each_band(outline_band, height)


def place_captions(result: Segmentation) -> list[Caption]:
    """Where names go: the middle of the widest spot of each label's largest regions, largest first."""
    height, width = result.label_map.shape
    scale = min(1.0, PLACING_SIZE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(result.label_map, size, interpolation=cv2.INTER_NEAREST)
    captions: list[tuple[int, Caption]] = []
    for label in np.flatnonzero(np.bincount(small.ravel()) >= MIN_REGION * small.size):
        if label == result.undecided or (result.has_background and label == 0):
            continue
        mask = (small == label).view(np.uint8)
        left, top, columns, rows = cv2.boundingRect(mask)
        inside = mask[top : top + rows, left : left + columns]
        _, parts, stats, _ = cv2.connectedComponentsWithStats(inside, connectivity=4)
        areas = stats[1:, cv2.CC_STAT_AREA]
        for part in np.argsort(-areas, kind="stable")[:3]:
            area = int(areas[part])
            if area < MIN_REGION * small.size:
                break
            x, y = _widest_spot(parts, stats, part + 1)
            spot = (left + x + 0.5) / size[0] * width, (top + y + 0.5) / size[1] * height
            captions.append((area, Caption(int(label), *spot)))
    return [caption for _, caption in sorted(captions, key=lambda item: -item[0])]


def _widest_spot(parts: np.ndarray, stats: np.ndarray, part: int) -> tuple[int, int]:
    """The x and y of the place in a connected part that is farthest from its border."""
    left, top, columns, rows, _ = stats[part].tolist()
    # A frame of zeros makes the picture's own edge count as a border.
    framed = np.pad((parts[top : top + rows, left : left + columns] == part).view(np.uint8), 1)
    depth = cv2.distanceTransform(framed, cv2.DIST_L2, 3)[1:-1, 1:-1]
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    return left + int(x), top + int(y)


@lru_cache(maxsize=64)
def _font(size: float, ascii_only: bool) -> Font:
    if not ascii_only:
        for name in FALLBACK_FONTS:
            try:
                return ImageFont.truetype(name, size)
            except OSError:
                continue
    return ImageFont.load_default(size)


def font_for(text: str, size: float) -> Font:
    """A font that can write ``text``: Pillow's own for Latin script, else the first system font that is there."""
    return _font(size, text.isascii())


@contextmanager
def _part(pixels_HW3: np.ndarray, box: Box, margin: float) -> Iterator[tuple[ImageDraw.ImageDraw, int, int]]:
    """Something to draw on that becomes the part of the picture around a box, and the part's left and top.

    Pillow keeps RGB in four bytes a pixel; to convert a whole photograph and back costs more than all the drawing.
    """
    # An even offset: Pillow rounds half a pixel to the even side, so this moves nothing.
    left, top = (max(0, math.floor(edge - margin)) & ~1 for edge in box[:2])
    right, bottom = (math.ceil(edge + margin) for edge in box[2:])
    part_hw3 = pixels_HW3[top:bottom, left:right]
    image = Image.fromarray(part_hw3)
    yield ImageDraw.Draw(image, "RGBA"), left, top
    part_hw3[:] = np.asarray(image)


def _draw_caption(
    pixels_HW3: np.ndarray, result: Segmentation, caption: Caption, unit: float, taken: list[Box]
) -> None:
    """Write a name on a plate unless the spot is taken already."""
    text = _short(result.labels[caption.label])
    font = font_for(text, unit)
    left, top, right, bottom = font.getbbox(text)
    half_w, half_h = (right - left) / 2 + unit * 0.4, (bottom - top) / 2 + unit * 0.3
    if 2 * half_w > result.width or 2 * half_h > result.height:
        return
    x = min(max(caption.x, half_w), result.width - half_w)
    y = min(max(caption.y, half_h), result.height - half_h)
    box = (x - half_w, y - half_h, x + half_w, y + half_h)
    if any(_overlap(box, other) for other in taken):
        return
    taken.append(box)
    colour = tuple(int(channel) for channel in result.colours[caption.label])
    with _part(pixels_HW3, box, margin=2) as (draw, x0, y0):
        plate = (box[0] - x0, box[1] - y0, box[2] - x0, box[3] - y0)
        start = (x - (left + right) / 2 - x0, y - (top + bottom) / 2 - y0)
        rim = (20, 20, 20, 255)
        draw.rounded_rectangle(plate, radius=unit * 0.35, fill=(*colour, 235), outline=rim, width=_line(unit))
        draw.text(start, text, font=font, fill=_ink(colour))


def _draw_legend(pixels_HW3: np.ndarray, result: Segmentation, unit: float) -> Box:
    """A panel with swatch, name and share of every label found, in the corner where it hides least."""
    rows = _legend_rows(result)
    # A panel higher or wider than the picture would be cut; smaller type is the lesser evil.
    size = min(unit * 0.8, (result.height - 2 * unit) / (1.5 * max(1, len(rows)) + 1))
    if size < 5 or result.width < 96 or not rows:
        return (0, 0, 0, 0)
    size *= min(1.0, (result.width - unit) / _legend_width(rows, size, unit))
    if size < 5:
        return (0, 0, 0, 0)
    step, pad = size * 1.5, min(unit * 0.45, size * 0.6)
    width, height = _legend_width(rows, size, unit), step * len(rows) + pad
    x, y = _free_corner(result, width, height, unit * 0.5)
    box = (x, y, x + width, y + height)
    with _part(pixels_HW3, box, margin=unit / 2) as (draw, x0, y0):
        panel = (box[0] - x0, box[1] - y0, box[2] - x0, box[3] - y0)
        draw.rounded_rectangle(panel, radius=unit * 0.35, fill=(15, 15, 15, 205))
        for row, (index, name, fraction) in enumerate(rows):
            middle = y + pad / 2 + step * (row + 0.5)
            if index >= 0:
                colour = tuple(int(channel) for channel in result.colours[index])
                swatch = (x + pad - x0, middle - size / 2 - y0, x + pad + size - x0, middle + size / 2 - y0)
                rim = (255, 255, 255, 160)
                draw.rounded_rectangle(swatch, radius=size * 0.2, fill=colour, outline=rim, width=_line(unit))
            start, end = (x + pad + size * 1.6 - x0, middle - y0), (x + width - pad - x0, middle - y0)
            draw.text(start, name, font=font_for(name, size), fill="white", anchor="lm")
            draw.text(end, fraction, font=font_for(fraction, size), fill=(225, 225, 225), anchor="rm")
    return box


def _legend_rows(result: Segmentation) -> list[tuple[int, str, str]]:
    """Index, name and share of the labels found, largest first; index −1 for the row that stands for the rest."""
    found = sorted((label for label in result.summary() if label.pixels), key=lambda label: -label.pixels)
    rows = [
        (label.index, _short(label.name), f"{label.fraction:.0%}" if label.fraction >= 0.01 else "<1%")
        for label in found
    ]
    if len(rows) > MAX_LEGEND_ROWS:
        rest = len(rows) - MAX_LEGEND_ROWS + 1
        rows = [*rows[: MAX_LEGEND_ROWS - 1], (-1, f"and {rest} more", "")]
    return rows


def _legend_width(rows: list[tuple[int, str, str]], size: float, unit: float) -> float:
    """Swatch, longest name, share and the space around them."""
    names = max(font_for(name, size).getlength(name) for _, name, _ in rows)
    share = font_for("100%", size).getlength("100%")
    return size * 2.6 + names + share + 2 * min(unit * 0.45, size * 0.6)


def _free_corner(result: Segmentation, width: float, height: float, margin: float) -> tuple[float, float]:
    """Top left of the panel in the corner with the plainest labels: where one label fills most of it."""
    right, bottom = max(margin, result.width - margin - width), max(margin, result.height - margin - height)
    corners = [(margin, bottom), (right, bottom), (margin, margin), (right, margin)]

    def variety(corner: tuple[float, float]) -> int:
        x, y = (int(value) for value in corner)
        hidden = result.label_map[y : int(y + height) : 8, x : int(x + width) : 8]
        _, counts = np.unique(hidden, return_counts=True)
        return int(hidden.size - counts.max(initial=0))

    return min(corners, key=variety)


def _look_up(table: np.ndarray, label_map: np.ndarray) -> np.ndarray:
    if label_map.dtype == np.uint8:
        return cv2.applyColorMap(label_map, table[:, None])
    return table[label_map]


def _for_each_band(work: Callable[[slice], None], height: int) -> None:
    with ThreadPoolExecutor() as pool:
        for _ in pool.map(work, (slice(top, min(top + BAND_ROWS, height)) for top in range(0, height, BAND_ROWS))):
            pass


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _ink(colour: tuple[int, ...]) -> str:
    red, green, blue = colour
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else "white"


def _line(unit: float) -> int:
    return max(1, round(unit / 16))


def _short(name: str, limit: int = 28) -> str:
    return name if len(name) <= limit else f"{name[: limit - 1]}…"
