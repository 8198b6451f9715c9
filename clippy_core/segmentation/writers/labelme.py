"""Outlines for LabelMe, in which they can be corrected by hand.

Format: the fields of LabelMe's own files (``labelme/label_file.py`` of wkentaro/labelme, version 5).

LabelMe's polygons have no holes. A region with holes becomes one line that goes along a slit from its outline to each
hole, around it and back; the slits run off the pixels' centres, so what fills by centres still gets the pixels exactly.

Then the steps of the pixels are smoothed away, for thousands of points cannot be moved by hand: a line departs from the
exact one by at most a pixel, and filling it gives every pixel back that is two or more from a border. The exact
outlines are in the output ``polygons``.
"""

import base64
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from clippy_core.files import to_json, write_bytes
from clippy_core.segmentation.inputs import STDIN
from clippy_core.segmentation.result import Segmentation
from clippy_core.segmentation.writers import with_suffix
from clippy_core.segmentation.writers.outlines import Edges, Region, Ring, find_regions
from clippy_core.segmentation.writers.png import png_chunks
from clippy_core.segmentation.writers.polygons import outlined

FORMAT = "5.5.0"
SLIT = 0.25
"""Where in a column of pixels a slit runs; the centres lie at 0.5."""
TOLERANCE = 1.0
"""Pixels that a line may depart from the exact one."""
Line = list[tuple[float, float]]


def write_labelme(result: Segmentation, stem: Path) -> list[Path]:
    """``.labelme.json``: a polygon for every region, with the path of the picture as seen from the file.

    An absolute path stays as it was given. A picture that is no file of its own (a frame of a video, a member of a
    shard, standard input) lies in the file.
    Coordinates are pixel corners, x to the right and y down, as LabelMe has them.
    """
    labels = outlined(result)
    regions = find_regions(result.label_map, [label.index for label in labels])
    path = with_suffix(stem, ".labelme.json")
    head = {"version": FORMAT, "flags": {}}
    shapes = [
        to_json(_shape(label.name, simplified(closed_line(region, label.index, result.label_map)))).rstrip()
        for label in labels
        for region in regions[label.index]
    ]
    foot = {
        **_picture(result, path.parent),
        "imageHeight": result.height,
        "imageWidth": result.width,
    }
    start = to_json(head).rstrip()[:-1] + b',\n"shapes": ['
    middle = b"\n" + b",\n".join(shapes) if shapes else b""
    write_bytes(path, start + middle + b"],\n" + to_json(foot)[1:])
    return [path]


def closed_line(region: Region, index: int, label_map_HW: np.ndarray) -> Line:
    """A region as one closed line; see the top of the file.

    Args:
        region: The region.
        index: Its label.
        label_map_HW: Where it was found.
    """
    if not region.holes:
        return [*region.outer]
    rings = [region.outer, *region.holes]
    slits = _slits(rings, index, label_map_HW)
    line: Line = []
    ways: list[tuple[Iterator[Any], Line]] = [(_along(rings[0], 0, slits[0]), [])]
    while ways:
        way, back = ways[-1]
        for step in way:
            if isinstance(step, _Slit):
                # The top left corner of a hole is its first; its top edge goes to one of the two beside it.
                x, first = step.x, _top_edge(rings[step.hole])
                line += [(x, step.top), (x, step.bottom)]
                ways.append((_along(rings[step.hole], first, slits[step.hole]), [(x, step.bottom), (x, step.top)]))
                break
            line.append(step)
        else:
            line += back
            ways.pop()
    return line


def simplified(line: Line) -> Line:
    """A closed line with fewer corners, no farther than ``TOLERANCE`` from the one given; a tiny one stays as it is.

    Source: Douglas and Peucker, *Algorithms for the reduction of the number of points*, 1973 (``cv2.approxPolyDP``).
    """
    slit_ends = [corner for corner, (x, _) in enumerate(line) if x % 1 == SLIT]
    if not slit_ends:
        fewer = _smoothed(line, closed=True)
        return line if len(fewer) < 4 else fewer
    # The two sides of a slit must stay on each other, so its ends do not move.
    fewer: Line = []
    for start, end in zip(slit_ends, [*slit_ends[1:], slit_ends[0] + len(line)], strict=True):
        piece = [line[corner % len(line)] for corner in range(start, end + 1)]
        smoothed = _smoothed(piece, closed=False)
        # Around a hole a line ends where it began, which OpenCV leaves out.
        fewer += smoothed if piece[0] == piece[-1] else smoothed[:-1]
    return fewer


def _smoothed(line: Line, *, closed: bool) -> Line:
    exact_C2 = np.array(line, np.float32)
    return [(x, y) for x, y in cv2.approxPolyDP(exact_C2[:, None], TOLERANCE, closed)[:, 0].tolist()]


class _Slit:
    """A line down a column of pixels from an edge of one ring to the top edge of a hole."""

    def __init__(self, hole: int, x: float, top: int, bottom: int) -> None:
        self.hole, self.x, self.top, self.bottom = hole, x, top, bottom


def _slits(rings: list[Ring], index: int, label_map_HW: np.ndarray) -> list[dict[int, list[_Slit]]]:
    """For each ring, by the number of the edge they begin at, the slits that lead from it to holes below."""
    edges = Edges(rings)
    slits: list[dict[int, list[_Slit]]] = [{} for _ in rings]
    for hole, ring in enumerate(rings[1:], 1):
        x, bottom = ring[0]
        edge = edges.above(ring, index, label_map_HW)
        slits[edge.ring].setdefault(edge.number, []).append(_Slit(hole, x + SLIT, edge.y, bottom))
    return slits


def _along(ring: Ring, first: int, slits: dict[int, list[_Slit]]) -> Iterator[Any]:
    """Once around a ring from the end of edge ``first`` to its beginning: corners, and slits where they begin.

    Edge ``first`` itself is gone along only by an outline; a hole's is its top edge, from which no slit leads down.
    """
    for step in range(len(ring)):
        edge = (first + 1 + step) % len(ring)
        start, end = ring[edge], ring[(edge + 1) % len(ring)]
        yield start
        yield from sorted(slits.get(edge, ()), key=lambda slit: slit.x, reverse=end[0] < start[0])


def _top_edge(hole: Ring) -> int:
    """The number of the level edge at a hole's first corner."""
    return 0 if hole[1][1] == hole[0][1] else len(hole) - 1


def _shape(name: str, line: Line) -> dict[str, Any]:
    return {
        "label": name,
        "points": [[float(x), float(y)] for x, y in line],
        "group_id": None,
        "description": "",
        "shape_type": "polygon",
        "flags": {},
        "mask": None,
    }


def _picture(result: Segmentation, folder: Path) -> dict[str, str | None]:
    """Where LabelMe finds the picture: its path, or the picture itself if it is no file of its own."""
    source = Path("stdin" if result.source == STDIN else result.source)
    if result.source == STDIN or not source.is_file():
        data = base64.b64encode(b"".join(png_chunks(result.picture.pixels_HW3))).decode("ascii")
        return {"imagePath": f"{source.stem}.png", "imageData": data}
    path = source if source.is_absolute() else Path(os.path.relpath(source, folder))
    return {"imagePath": path.as_posix(), "imageData": None}
