"""What is trained on, as webdataset shards: parts of photographs, and composed pictures, with their captions.

- ``photographs-*.tar``: a sample for each captioned part of each photograph of photographs.json; the part is the
  sample's box.
- ``composites-*.tar``: composed pictures with whole captions, and for every second one also one thing or one piece of
  stuff with its box and name.
"""

import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from compose import BACKGROUND_CLASSES, SIDE, Composer, Picture  # beside this file
from PIL import Image
from webdataset.writer import TarWriter

from clippy_core.images import to_picture

LONGEST = 448
"""Pixels of a photograph's longer side in a shard."""
QUALITY = 92
LEAST_PIXELS = 1500
"""Of a thing that is spoken of by itself."""


def write_photographs(path: Path, photographs: Sequence[dict[str, Any]], files: Sequence[Path]) -> int:
    """Write a sample for each captioned part; returns how many."""
    count = 0
    with TarWriter(str(path)) as shard:
        for photograph, file in zip(photographs, files, strict=True):
            picture = Image.fromarray(to_picture(str(file), max_pixels=10**9).pixels_HW3)
            picture.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
            jpeg = _jpeg(picture)
            for number, (*box, caption) in enumerate(photograph["regions"]):
                said = {"caption": [caption, f"a photo of {caption}"], "box": box}
                shard.write({"__key__": f"{photograph['id']}-{number}", "jpg": jpeg, "json": said})
                count += 1
    return count


def write_composites(path: Path, composer: Composer, count: int) -> int:
    """Write ``count`` pictures with whole captions, every second one again with a part; returns how many samples."""
    written = 0
    with TarWriter(str(path)) as shard:
        for number in range(count):
            picture = composer.draw(number)
            jpeg = _jpeg(Image.fromarray(picture.pixels_HW3))
            shard.write({"__key__": f"{number:05d}-whole", "jpg": jpeg, "txt": picture.caption})
            written += 1
            if number % 2 == 0:
                random = np.random.default_rng([composer.seed, number, 1])
                parts = list(_parts(picture, composer, random))
                if parts:
                    box, names = parts[int(random.integers(len(parts)))]
                    said = {"caption": list(names), "box": box}
                    shard.write({"__key__": f"{number:05d}-part", "jpg": jpeg, "json": said})
                    written += 1
    return written


def _parts(
    picture: Picture, composer: Composer, random: np.random.Generator
) -> Iterator[tuple[list[float], tuple[str, ...]]]:
    """Boxes and names of the things, and of a square of each kind of stuff that is big enough."""
    for index in range(1, int(picture.instances_HW.max()) + 1):
        rows, columns = np.nonzero(picture.instances_HW == index)
        if len(rows) >= LEAST_PIXELS:
            cutout = composer.cutouts[int(picture.mask_HW[rows[0], columns[0]]) - BACKGROUND_CLASSES]
            yield _box(columns.min(), rows.min(), columns.max() + 1, rows.max() + 1), cutout.names
    for number in np.unique(picture.mask_HW[picture.mask_HW < BACKGROUND_CLASSES]):
        for _ in range(20):
            side = int(random.integers(SIDE // 5, SIDE * 5 // 8))
            top, left = (int(start) for start in random.integers(SIDE - side + 1, size=2))
            if (picture.mask_HW[top : top + side, left : left + side] == number).mean() > 0.9:
                yield _box(left, top, left + side, top + side), (composer.words[int(number)],)
                break


def _box(*sides: int) -> list[float]:
    return [round(int(side) / SIDE, 4) for side in sides]


def _jpeg(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


def read_list(path: Path) -> list[dict[str, Any]]:
    """The photographs of a list such as photographs.json."""
    return json.loads(path.read_text(encoding="utf-8"))["photographs"]
