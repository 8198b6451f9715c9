"""One picture as the bytes of a file, for a pipe."""

from collections.abc import Callable

from clippy_core.errors import UsageError
from clippy_core.segmentation.result import Segmentation
from clippy_core.segmentation.writers.pictures import Pixels, label_map_pixels, overlay_pixels, score_pixels
from clippy_core.segmentation.writers.png import png_chunks

KINDS: dict[str, Callable[[Segmentation], Pixels]] = {
    "overlay": overlay_pixels,
    "labelmap": label_map_pixels,
    "scores": score_pixels,
}
"""Outputs that are exactly one picture."""


def picture_bytes(result: Segmentation, kind: str) -> bytes:
    """The PNG that the writer ``kind`` would write to a file, byte for byte.

    Raises:
        UsageError: An output that is not one picture, or scores that were not asked for.
    """
    if kind not in KINDS:
        raise UsageError(f"--save is {kind!r} with --out -; accepted, as one picture: {', '.join(KINDS)}")
    return b"".join(png_chunks(*KINDS[kind](result)))
