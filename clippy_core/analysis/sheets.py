"""Contact sheets: small pictures in rows, with words under each.

Shapes: H/W pixel.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from clippy_core.errors import visible
from clippy_core.segmentation.overlay import font_for

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

CELL = 132
GAP = 8
TEXT, TITLE = 13, 16
"""Heights of letters in pixels: under pictures, and above a row."""
HEADING = 24
"""Height in pixels that a row's heading has."""
INK, SOFT, PAPER = (40, 40, 45), (105, 110, 118), (255, 255, 255)
MARKS = {"good": (0, 130, 90), "bad": (200, 60, 30), "": SOFT}


@dataclass(frozen=True, eq=False)
class Tile:
    """A small picture with words.

    Attributes:
        pixels_HW3: ``uint8`` RGB of any size; fitted into a square.
        lines: At most two lines under it; longer ones are cut.
        mark: ``good``, ``bad`` or nothing: the colour of its frame.
    """

    pixels_HW3: np.ndarray
    lines: tuple[str, ...] = ()
    mark: str = ""


def sheet(rows: Sequence[tuple[str, Sequence[Tile]]], *, cell: int = CELL) -> np.ndarray:
    """Rows of pictures on white, ``uint8`` RGB; a row may have a heading, which stands above it.

    Args:
        rows: Heading and pictures of each row.
        cell: Side in pixels of the square that a picture is fitted into.
    """
    from PIL import Image, ImageDraw

    across = max(len(tiles) for _, tiles in rows)
    lines = max((len(tile.lines) for _, tiles in rows for tile in tiles), default=0) * (TEXT + 4)
    small = [[_fitted(tile.pixels_HW3, cell) for tile in tiles] for _, tiles in rows]
    heights = [max(picture.height for picture in pictures) for pictures in small]
    heading = HEADING if any(title for title, _ in rows) else 0
    width = across * (cell + GAP) + GAP
    paper = Image.new("RGB", (width, sum(heights) + len(rows) * (heading + lines + 2 * GAP) + GAP), PAPER)
    pencil, top = ImageDraw.Draw(paper), GAP
    for (title, tiles), pictures, height in zip(rows, small, heights, strict=True):
        pencil.text((GAP, top), _cut(title, width - 2 * GAP, TITLE), fill=INK, font=font_for(title, TITLE))
        top += heading
        for column, (tile, picture) in enumerate(zip(tiles, pictures, strict=True)):
            left = GAP + column * (cell + GAP)
            corner = left, top + (height - picture.height) // 2
            paper.paste(picture, corner)
            if tile.mark:
                edge = (*corner, corner[0] + picture.width - 1, corner[1] + picture.height - 1)
                pencil.rectangle(edge, outline=MARKS[tile.mark], width=3)
            _write(pencil, tile, (left, top + height + 3), cell)
        top += height + lines + 2 * GAP
    return np.asarray(paper)


def _fitted(pixels_HW3: np.ndarray, cell: int) -> "Image":
    from PIL import Image

    height, width = pixels_HW3.shape[:2]
    scale = cell / max(height, width)
    return Image.fromarray(pixels_HW3).resize((max(1, round(width * scale)), max(1, round(height * scale))))


def _write(pencil: "ImageDraw", tile: Tile, corner: tuple[int, int], width: int) -> None:
    for number, line in enumerate(map(visible, tile.lines)):
        colour = INK if number == 0 else MARKS[tile.mark]
        at = corner[0], corner[1] + number * (TEXT + 4)
        pencil.text(at, _cut(line, width), fill=colour, font=font_for(line, TEXT))


def _cut(line: str, width: int, size: int = TEXT) -> str:
    font = font_for(line, size)
    if font.getlength(line) <= width:
        return line
    while line and font.getlength(line + "…") > width:
        line = line[:-1]
    return line + "…"
