"""The outlines of a label map's regions, exactly along the edges of the pixels.

Coordinates are those of pixel *corners*: (0, 0) is the top left corner of the picture, x runs right and y down, and the
pixel in column 3 of row 5 is the square from (3, 5) to (4, 6). So every region has the area of its pixels, one of a
single pixel included, and any program that fills what lies inside an outline, by the centres of pixels, gets exactly
the pixels back. (``cv2.findContours`` runs through the *centres* of the outermost pixels: its outlines are half a pixel
too small on every side, a line of pixels has none, and an area between two labels belongs to neither.)

How: an outline has a corner where the four pixels around a point are not simply two halves. On each line of the grid
the corners of one label, in order, are the ends of its edges, two by two; so sorting them once by rows and once by
columns links all corners of all labels, at a cost that does not grow with the number of labels.

Regions are connected by edges, not by corners. No outline touches itself; two may touch at a point.

Shapes: H/W pixel, N corner.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

Ring = list[tuple[int, int]]
"""Corners (x, y) of a closed line, the first not repeated: the top left one comes first."""
_Line = list[tuple[int, int]]
"""Corners (y, x) of a closed line, from any of them, in any direction."""


@dataclass
class Region:
    """Connected pixels of one label.

    Attributes:
        outer: The outline; its area by the shoelace formula is positive.
        holes: Outlines of what is cut out; their areas are negative.
    """

    outer: Ring
    holes: list[Ring]


class _Corners(NamedTuple):
    """Corners of all labels' outlines; each is the end of one level and of one upright edge."""

    label_N: np.ndarray
    y_N: np.ndarray
    x_N: np.ndarray
    is_right_N: np.ndarray
    """Whether, of two corners of one label at one point, it has the edge that goes right rather than left."""
    is_down_N: np.ndarray


def find_regions(label_map_HW: np.ndarray, indices: list[int]) -> dict[int, list[Region]]:
    """The regions of some labels.

    Args:
        label_map_HW: ``uint8`` or ``uint16``.
        indices: Which labels; not the dtype's largest value, which stands for *not decided*.

    Returns:
        The regions of each label, from top to bottom, then from left to right.
    """
    lines: dict[int, list[_Line]] = {index: [] for index in indices}
    corners = _find_corners(label_map_HW, indices)
    labels = corners.label_N.tolist()
    for line, corner in _follow(corners):
        lines[labels[corner]].append(line)
    return {index: _regions(label_map_HW, index, found) for index, found in lines.items()}


def _find_corners(label_map_HW: np.ndarray, indices: list[int]) -> _Corners:
    outside = int(np.iinfo(label_map_HW.dtype).max)
    framed = np.pad(label_map_HW, 1, constant_values=outside)
    around = framed[:-1, :-1], framed[:-1, 1:], framed[1:, :-1], framed[1:, 1:]
    top_left, top_right, bottom_left, bottom_right = around
    level = (top_left == top_right) & (bottom_left == bottom_right)
    upright = (top_left == bottom_left) & (top_right == bottom_right)
    y, x = np.nonzero(~(level | upright))
    around_N4 = np.stack([corner[y, x] for corner in around], axis=1)
    wanted = np.zeros(outside + 1, bool)
    wanted[indices] = True
    parts = []
    for position in range(4):
        label = around_N4[:, position]
        is_first = wanted[label] & (around_N4[:, :position] != label[:, None]).all(axis=1)
        mine_N4 = around_N4[is_first] == label[is_first, None]
        parts += _corners_of(mine_N4, label[is_first], y[is_first], x[is_first])
    return _Corners(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _corners_of(mine_N4: np.ndarray, label: np.ndarray, y: np.ndarray, x: np.ndarray) -> Iterator[_Corners]:
    """Corners at points, given which of the four pixels around are of the label."""
    single = mine_N4.sum(axis=1) % 2 == 1
    none = np.zeros(int(single.sum()), bool)
    yield _Corners(label[single], y[single], x[single], none, none)
    # Two pixels that touch only at the point: an outline goes around either of them.
    falling = mine_N4[:, 0] & mine_N4[:, 3] & ~mine_N4[:, 1] & ~mine_N4[:, 2]
    rising = mine_N4[:, 1] & mine_N4[:, 2] & ~mine_N4[:, 0] & ~mine_N4[:, 3]
    for touching, pairs in ((falling, ((0, 0), (1, 1))), (rising, ((0, 1), (1, 0)))):
        count = int(touching.sum())
        for is_right, is_down in pairs:
            place = label[touching], y[touching], x[touching]
            yield _Corners(*place, np.full(count, is_right, bool), np.full(count, is_down, bool))


def _follow(corners: _Corners) -> Iterator[tuple[_Line, int]]:
    """Closed lines, and the number of one corner of each."""
    order = np.lexsort((corners.is_right_N, corners.x_N, corners.y_N, corners.label_N))
    beside = _partners(order)
    order = np.lexsort((corners.is_down_N, corners.y_N, corners.x_N, corners.label_N))
    below = _partners(order)
    points = list(zip(corners.y_N.tolist(), corners.x_N.tolist(), strict=True))
    seen = bytearray(len(points))
    for start in range(len(points)):
        if seen[start]:
            continue
        line, corner = [], start
        while not seen[corner]:
            other = beside[corner]
            seen[corner] = seen[other] = True
            line += [points[corner], points[other]]
            corner = below[other]
        yield from ((part, start) for part in _apart(line))


def _partners(order: np.ndarray) -> list[int]:
    partner = np.empty_like(order)
    partner[order[0::2]], partner[order[1::2]] = order[1::2], order[0::2]
    return partner.tolist()


def _apart(line: _Line) -> Iterator[_Line]:
    """A closed line that touches itself, as lines that do not."""
    if len(set(line)) == len(line):
        yield line
        return
    path: _Line = []
    place: dict[tuple[int, int], int] = {}
    for point in line:
        if point in place:
            loop = path[place[point] :]
            del path[place[point] :]
            for left in loop:
                del place[left]
            yield loop
        place[point] = len(path)
        path.append(point)
    yield path


def _regions(label_map_HW: np.ndarray, index: int, lines: list[_Line]) -> list[Region]:
    """Lines sorted into outlines and what is cut out of each."""
    regions, holes = [], []
    for start, line in sorted((min(line), line) for line in lines):
        # Just inside the top left corner of a line lies the label if it is an outline, and something else if a hole.
        is_outer = label_map_HW[start] == index
        ring = _ring(line, start, right_first=is_outer)
        if is_outer:
            regions.append(Region(ring, []))
        else:
            holes.append(ring)
    if len(regions) == 1:
        regions[0].holes.extend(holes)
    elif holes:
        edges = Edges([*(region.outer for region in regions), *holes])
        owners = [*regions]
        for hole in holes:
            owners.append(owners[edges.above(hole, index, label_map_HW).ring])
            owners[-1].holes.append(hole)
    return regions


def _ring(line: _Line, start: tuple[int, int], *, right_first: bool) -> Ring:
    """The line from its top left corner, in the direction that gives its area the wanted sign."""
    place = line.index(start)
    line = line[place:] + line[:place]
    if (line[1][0] == start[0]) != right_first:
        line = [start, *line[:0:-1]]
    return [(x, y) for y, x in line]


class Edge(NamedTuple):
    """A level edge of a ring.

    Attributes:
        y: Where it lies.
        ring: The number of the ring.
        number: Its number in the ring: it begins at the corner of that number.
    """

    y: int
    ring: int
    number: int


class Edges:
    """The level edges of one label's rings, to be found by their place.

    Args:
        rings: The outlines and holes of whole regions.
    """

    def __init__(self, rings: Sequence[Ring]) -> None:
        found = sorted(
            (y0, min(x0, x1), number, edge)
            for number, ring in enumerate(rings)
            for edge, ((x0, y0), (x1, y1)) in enumerate(zip(ring, [*ring[1:], ring[0]], strict=True))
            if y0 == y1
        )
        self._places = [edge[:2] for edge in found]
        self._edges = [Edge(y, number, edge) for y, _, number, edge in found]

    def above(self, hole: Ring, index: int, label_map_HW: np.ndarray) -> Edge:
        """The edge that one meets on the way up from the first corner of a hole in the label ``index``.

        It belongs to the outline of the same region, or to a hole of it that begins higher up.
        """
        x, bottom = hole[0]
        others = np.flatnonzero(label_map_HW[:bottom, x] != index)
        top = int(others[-1]) + 1 if others.size else 0
        return self._edges[bisect_right(self._places, (top, x)) - 1]
