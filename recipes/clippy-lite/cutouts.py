"""Photographs of single things with their outline, and what each thing is called.

They are the stamps of the drawing program Tux Paint: pictures with transparency, one line of text beside each.
Drawings, letters and symbols are left out. Names come from those lines, put right by hand where a line says more or
less than what is there; a broader word follows from the folder.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import textures  # beside this file
from PIL import Image

PACKAGE = "tuxpaint-stamps-default"
NAMES = Path(__file__).with_name("cutouts.json")
NOT_PHOTOGRAPHS = re.compile(r"cartoon|symbols|seasonal|space|military|naturalforces|people|button")
LEAST_SIDE = 60
LEAST_COLOURS = 0.06
"""Different colours per opaque pixel, of 64 shades a channel: drawings have fewer."""
HOLD_OUT_EVERY = 5


@dataclass(frozen=True)
class Cutout:
    """One thing.

    Attributes:
        path: The picture, RGBA.
        names: What it may be called, the most exact name first.
        held_out: Kept for measuring: never in a training picture.
    """

    path: Path
    names: tuple[str, ...]
    held_out: bool


def fetch(cache: Path) -> Path:
    """Download and unpack the Debian package, once; returns the folder of the stamps."""
    return textures.fetch(cache, PACKAGE) / "usr/share/tuxpaint/stamps"


def read(folder: Path) -> list[Cutout]:
    """All cut-outs, in a fixed order; every fifth is held out."""
    document = json.loads(NAMES.read_text(encoding="utf-8"))
    found = [
        (path, names)
        for path in sorted(folder.rglob("*.png"))
        if not NOT_PHOTOGRAPHS.search(str(path.relative_to(folder))) and (names := _names(path, folder, document))
        if _is_photograph(path)
    ]
    return [
        Cutout(path, names, index % HOLD_OUT_EVERY == HOLD_OUT_EVERY - 1) for index, (path, names) in enumerate(found)
    ]


def _names(path: Path, folder: Path, document: dict[str, dict[str, str]]) -> tuple[str, ...]:
    text = path.with_suffix(".txt")
    if not text.exists():
        return ()
    broader = next((word for part, word in document["broader"].items() if part in path.relative_to(folder).parts), None)
    line = text.read_text(encoding="utf-8", errors="replace").split("\n")[0]
    exact = document["names"].get(path.stem) or _plain(line)
    own = tuple(name.strip() for name in exact.split(","))
    return tuple(dict.fromkeys((*own, broader) if broader else own))


def _plain(line: str) -> str:
    """The first clause of a line such as ``"A peacock (a male peafowl)."``, without its article."""
    return re.sub(r"^(an?|the) ", "", re.split(r"[.!(,]", line)[0].strip().lower())


def _is_photograph(path: Path) -> bool:
    with Image.open(path) as image:
        if image.mode not in ("RGBA", "LA", "P") or min(image.size) < LEAST_SIDE:
            return False
        rgba_HW4 = np.asarray(image.convert("RGBA"))
    opaque_HW = rgba_HW4[..., 3] > 128
    if not 0.08 <= opaque_HW.mean() <= 0.97:
        return False
    colours_N3 = rgba_HW4[opaque_HW][:, :3] >> 2
    return len(np.unique(colours_N3, axis=0)) > LEAST_COLOURS * len(colours_N3)
