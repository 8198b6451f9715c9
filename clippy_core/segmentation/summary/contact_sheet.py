"""Small pictures of a run's overlays, and a sheet of them.

Shapes: H/W pixel of the sheet, h/w pixel of one small picture, 3 colours.
"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from clippy_core.errors import ImageError, visible
from clippy_core.images import read_picture
from clippy_core.segmentation.overlay import font_for
from clippy_core.segmentation.summary.findings import Entry

WIDTH, HEIGHT = 320, 240
"""The most that a small picture takes."""
COLUMNS, GAP = 4, 16
NAME_SIZE, TEXT_SIZE, TITLE_SIZE = 15, 13, 24
PAPER, INK, FAINT, EMPTY = "white", (20, 20, 20), (95, 95, 95), (232, 232, 232)
ANY_SIZE = 2**31


class Tile(NamedTuple):
    """A picture of the sheet; ``small_hw3`` is None if there is no overlay that can be read."""

    entry: Entry
    small_hw3: np.ndarray | None


class Block(NamedTuple):
    """Tiles under one title."""

    title: str
    tiles: list[Tile]


def make_tile(out: Path, entry: Entry) -> Tile:
    """An entry with its overlay made small."""
    if entry.overlay is None:
        return Tile(entry, None)
    path = out / entry.overlay
    try:
        pixels = read_picture(path, max_pixels=ANY_SIZE).pixels_HW3 if path.suffix == ".png" else _middle_frame(path)
    except ImageError:
        return Tile(entry, None)
    image = Image.fromarray(pixels)
    image.thumbnail((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
    return Tile(entry, np.asarray(image))


def jpeg(small_hw3: np.ndarray) -> bytes:
    """A small picture as a JPEG file."""
    file = io.BytesIO()
    Image.fromarray(small_hw3).save(file, "JPEG", quality=85)
    return file.getvalue()


def draw_sheet(blocks: Sequence[Block]) -> np.ndarray:
    """The sheet, ``uint8`` RGB: under each title its tiles in rows, with name, certainty and largest labels."""
    row = HEIGHT + NAME_SIZE + 2 * TEXT_SIZE + 3 * GAP
    rows = [-(-len(block.tiles) // COLUMNS) for block in blocks]
    height = GAP + sum(TITLE_SIZE + 2 * GAP + count * row for count in rows)
    sheet = Image.new("RGB", (GAP + COLUMNS * (WIDTH + GAP), height), PAPER)
    draw = ImageDraw.Draw(sheet)
    y = GAP
    for block, count in zip(blocks, rows, strict=True):
        draw.text((GAP, y), block.title, font=font_for(block.title, TITLE_SIZE), fill=INK)
        y += TITLE_SIZE + 2 * GAP
        for number, tile in enumerate(block.tiles):
            place = GAP + number % COLUMNS * (WIDTH + GAP), y + number // COLUMNS * row
            _draw_tile(sheet, draw, tile, place)
        y += count * row
    return np.asarray(sheet)


def certainty_text(entry: Entry) -> str:
    """The certainty in words, or nothing."""
    return "" if entry.certainty is None else f"certainty {entry.certainty:.3f}"


def shares_text(entry: Entry) -> str:
    """The largest labels with their shares."""
    return ", ".join(f"{name} {share:.0%}" if share >= 0.01 else f"{name} <1%" for name, share in entry.shares)


def _draw_tile(sheet: Image.Image, draw: ImageDraw.ImageDraw, tile: Tile, place: tuple[int, int]) -> None:
    x, y = place
    if tile.small_hw3 is None:
        draw.rectangle((x, y, x + WIDTH - 1, y + HEIGHT - 1), fill=EMPTY)
        middle = (x + WIDTH / 2, y + HEIGHT / 2)
        draw.text(middle, "no overlay", font=font_for("no overlay", TEXT_SIZE), fill=FAINT, anchor="mm")
    else:
        height, width = tile.small_hw3.shape[:2]
        sheet.paste(Image.fromarray(tile.small_hw3), (x + (WIDTH - width) // 2, y + HEIGHT - height))
    y += HEIGHT + GAP // 2
    lines = ((tile.entry.source, NAME_SIZE, INK), (certainty_text(tile.entry), TEXT_SIZE, FAINT))
    for text, size, colour in (*lines, (shares_text(tile.entry), TEXT_SIZE, FAINT)):
        # What pillow cannot encode is a name whose bytes are no UTF-8.
        text = _fitting(visible(text.encode("utf-8", "backslashreplace").decode()), size)
        draw.text((x, y), text, font=font_for(text, size), fill=colour)
        y += size + GAP // 4


def _fitting(text: str, size: float) -> str:
    """Text no wider than a tile; the end of a path says more than its beginning."""
    if font_for(text, size).getlength(text) <= WIDTH:
        return text
    font = font_for(f"…{text}", size)
    while text and font.getlength(f"…{text}") > WIDTH:
        text = text[max(1, len(text) // 50) :]
    return f"…{text}"


def _middle_frame(path: Path) -> np.ndarray:
    """A frame from the middle of a video that was written here.

    Raises:
        ImageError: It cannot be read.
    """
    import cv2

    from clippy_core.segmentation.video.reading import quiet_opencv

    with quiet_opencv():
        capture = cv2.VideoCapture(str(path.absolute()), cv2.CAP_FFMPEG)
        capture.set(cv2.CAP_PROP_POS_FRAMES, capture.get(cv2.CAP_PROP_FRAME_COUNT) // 2)
        decoded, pixels_HW3 = capture.read()
        capture.release()
    if not decoded:
        raise ImageError(f"{path}: no frame can be read")
    return cv2.cvtColor(pixels_HW3, cv2.COLOR_BGR2RGB)
