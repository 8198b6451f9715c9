"""The picture a person looks at: tinted by label, outlined, with names in place and a legend.

Everything scales with the picture, so that a thumbnail and a 50-megapixel photograph look alike. The label map is
simplified to at most 640 pixels for *placing* names; tint and outlines are drawn at full resolution.
"""

from typing import NamedTuple, TypeAlias

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from clippy_core.segmentation.result import Segmentation

TINT = 0.5
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


def draw_overlay(result: Segmentation) -> Image.Image:
    """Draw the overlay; RGB, the size of the picture as displayed."""
    pixels_HW3 = tint(result)
    outline(result.label_map, pixels_HW3)
    image = Image.fromarray(pixels_HW3)
    unit = max(10.0, min(result.height, result.width) / 32)
    draw = ImageDraw.Draw(image, "RGBA")
    taken = [_draw_legend(draw, result, unit)]
    for caption in place_captions(result):
        _draw_caption(draw, result, caption, unit, taken)
    return image


def draw_tint(result: Segmentation) -> Image.Image:
    """The tint alone, for pictures too small to carry names."""
    return Image.fromarray(tint(result))


def tint(result: Segmentation) -> np.ndarray:
    """The picture blended with the colour of each pixel's label; background and undecided pixels stay as they are."""
    pixels_HW3 = result.picture.pixels_HW3
    table = np.zeros((result.undecided + 1, 3), np.uint8)
    table[: len(result.labels)] = result.colours
    colours_HW3 = _look_up(table, result.label_map)
    blended_HW3 = cv2.addWeighted(pixels_HW3, 1 - TINT, colours_HW3, TINT, 0)
    if result.has_background:
        cv2.copyTo(pixels_HW3, (result.label_map == 0).view(np.uint8), blended_HW3)
    if int(result.pixel_counts.sum()) < result.label_map.size:
        cv2.copyTo(pixels_HW3, (result.label_map == result.undecided).view(np.uint8), blended_HW3)
    return blended_HW3


def outline(label_map: np.ndarray, pixels_HW3: np.ndarray) -> None:
    """Draw a light line with a dark rim along every border between labels, in place."""
    height, width = label_map.shape
    border_HW = np.zeros((height, width), np.uint8)
    border_HW[:, 1:] |= label_map[:, 1:] != label_map[:, :-1]
    border_HW[1:] |= label_map[1:] != label_map[:-1]
    thickness = max(1, round(min(height, width) / 360))
    rim = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (thickness * 2 + 1,) * 2)
    line = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (thickness,) * 2)
    for kernel, colour in ((rim, (30, 30, 30)), (line, (255, 255, 255))):
        mask_HW = cv2.dilate(border_HW, kernel)
        pixels_HW3[mask_HW.view(bool)] = colour


def place_captions(result: Segmentation) -> list[Caption]:
    """Where names go: the middle of the widest spot of each label's largest regions, largest first."""
    height, width = result.label_map.shape
    scale = min(1.0, PLACING_SIZE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(result.label_map, size, interpolation=cv2.INTER_NEAREST)
    captions: list[tuple[int, Caption]] = []
    for label in np.unique(small):
        if label == result.undecided or (result.has_background and label == 0):
            continue
        mask = (small == label).astype(np.uint8)
        _, parts, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
        areas = stats[1:, cv2.CC_STAT_AREA]
        for part in np.argsort(-areas, kind="stable")[:3]:
            area = int(areas[part])
            if area < MIN_REGION * small.size:
                break
            # A frame of zeros makes the picture's own edge count as a border.
            framed = np.pad((parts == part + 1).astype(np.uint8), 1)
            depth = cv2.distanceTransform(framed, cv2.DIST_L2, 3)[1:-1, 1:-1]
            y, x = np.unravel_index(int(depth.argmax()), depth.shape)
            captions.append((area, Caption(int(label), (x + 0.5) / size[0] * width, (y + 0.5) / size[1] * height)))
    return [caption for _, caption in sorted(captions, key=lambda item: -item[0])]


def font_for(text: str, size: float) -> Font:
    """A font that can write ``text``: Pillow's own for Latin script, else the first system font that is there."""
    if not text.isascii():
        for name in FALLBACK_FONTS:
            try:
                return ImageFont.truetype(name, size)
            except OSError:
                continue
    return ImageFont.load_default(size)


def _draw_caption(
    draw: ImageDraw.ImageDraw, result: Segmentation, caption: Caption, unit: float, taken: list[Box]
) -> None:
    """Write a name on a plate unless the spot is taken already."""
    text = _short(result.labels[caption.label])
    font = font_for(text, unit)
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
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
    draw.rounded_rectangle(box, radius=unit * 0.35, fill=(*colour, 235), outline=(20, 20, 20, 255), width=_line(unit))
    draw.text((x - (left + right) / 2, y - (top + bottom) / 2), text, font=font, fill=_ink(colour))


def _draw_legend(draw: ImageDraw.ImageDraw, result: Segmentation, unit: float) -> Box:
    """A panel with swatch, name and share of every label found, in the corner where it hides least."""
    found = sorted((label for label in result.summary() if label.pixels), key=lambda label: -label.pixels)
    rows = [
        (label.index, _short(label.name), f"{label.fraction:.0%}" if label.fraction >= 0.01 else "<1%")
        for label in found
    ]
    if len(rows) > MAX_LEGEND_ROWS:
        rest = len(rows) - MAX_LEGEND_ROWS + 1
        rows = [*rows[: MAX_LEGEND_ROWS - 1], (-1, f"and {rest} more", "")]
    # A panel higher or wider than the picture would be cut; smaller type is the lesser evil.
    size = min(unit * 0.8, (result.height - 2 * unit) / (1.5 * max(1, len(rows)) + 1))
    if size < 5 or result.width < 96 or not rows:
        return (0, 0, 0, 0)
    size *= min(1.0, (result.width - unit) / _legend_width(draw, rows, size, unit))
    if size < 5:
        return (0, 0, 0, 0)
    step, pad = size * 1.5, min(unit * 0.45, size * 0.6)
    fonts = [font_for(name, size) for _, name, _ in rows]
    width, height = _legend_width(draw, rows, size, unit), step * len(rows) + pad
    x, y = _free_corner(result, width, height, unit * 0.5)
    box = (x, y, x + width, y + height)
    draw.rounded_rectangle(box, radius=unit * 0.35, fill=(15, 15, 15, 205))
    for row, ((index, name, fraction), font) in enumerate(zip(rows, fonts, strict=True)):
        middle = y + pad / 2 + step * (row + 0.5)
        if index >= 0:
            colour = tuple(int(channel) for channel in result.colours[index])
            swatch = (x + pad, middle - size / 2, x + pad + size, middle + size / 2)
            draw.rounded_rectangle(
                swatch, radius=size * 0.2, fill=colour, outline=(255, 255, 255, 160), width=_line(unit)
            )
        draw.text((x + pad + size * 1.6, middle), name, font=font, fill="white", anchor="lm")
        end = (x + width - pad, middle)
        draw.text(end, fraction, font=ImageFont.load_default(size), fill=(225, 225, 225), anchor="rm")
    return box


def _legend_width(draw: ImageDraw.ImageDraw, rows: list[tuple[int, str, str]], size: float, unit: float) -> float:
    """Swatch, longest name, share and the space around them."""
    names = max(draw.textlength(name, font=font_for(name, size)) for _, name, _ in rows)
    share = draw.textlength("100%", font=ImageFont.load_default(size))
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
        return cv2.LUT(cv2.merge([label_map] * 3), table[None])
    return table[label_map]


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _ink(colour: tuple[int, ...]) -> str:
    red, green, blue = colour
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else "white"


def _line(unit: float) -> int:
    return max(1, round(unit / 16))


def _short(name: str, limit: int = 28) -> str:
    return name if len(name) <= limit else f"{name[: limit - 1]}…"
