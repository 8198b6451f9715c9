"""Curves of any length in bounded memory, drawn with the dots of braille characters (or with ASCII)."""

import math
from dataclasses import dataclass
from itertools import accumulate

from rich.segment import Segment
from rich.style import Style

Line = list[Segment]

CAPACITY = 512
SMOOTHING = 12  # the smoothed curve is a mean over a twelfth of what is shown
QUANTILE = 0.02  # this share of points, at each end, may lie outside of the plot
RAW, SMOOTH, LABEL = Style(color="cyan", dim=True), Style(color="bright_cyan", bold=True), Style(dim=True)
# Bits of a braille character's dots, from the top down, in its left and its right column.
DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
BRAILLE = 0x2800


@dataclass
class Bucket:
    """Values of neighbouring steps: which bucket, how many values, their sum and their range."""

    index: int
    count: int
    total: float
    low: float
    high: float

    def merge(self, other: "Bucket") -> None:
        """Take the values of a neighbour in."""
        self.count += other.count
        self.total += other.total
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)


class Curve:
    """Values by step, in at most 512 buckets: when they are full, neighbours become one.

    Numbers that are not finite leave a gap.
    """

    def __init__(self) -> None:
        self.buckets: list[Bucket] = []
        self._width = 1

    def add(self, step: int, value: float) -> None:
        """Append a value; steps rise."""
        if not math.isfinite(value):
            return
        bucket = Bucket(step // self._width, 1, value, value, value)
        if self.buckets and self.buckets[-1].index == bucket.index:
            self.buckets[-1].merge(bucket)
            return
        self.buckets.append(bucket)
        while len(self.buckets) > CAPACITY:
            self._halve()

    def columns(self, count: int) -> list[Bucket]:
        """The curve in at most ``count`` columns from its first step to its last; ``index`` is the column."""
        if not self.buckets:
            return []
        first, last = self.buckets[0].index, self.buckets[-1].index
        scale = (count - 1) / max(last - first, count - 1, 1)
        columns: list[Bucket] = []
        for bucket in self.buckets:
            column = Bucket(round((bucket.index - first) * scale), bucket.count, bucket.total, bucket.low, bucket.high)
            if columns and columns[-1].index == column.index:
                columns[-1].merge(column)
            else:
                columns.append(column)
        return columns

    def _halve(self) -> None:
        self._width *= 2
        old, self.buckets = self.buckets, []
        for bucket in old:
            bucket.index //= 2
            if self.buckets and self.buckets[-1].index == bucket.index:
                self.buckets[-1].merge(bucket)
            else:
                self.buckets.append(bucket)


def smooth(columns: list[Bucket]) -> list[float]:
    """Means over a window around each column, which narrows towards both ends so that the curve does not lag."""
    sums = [0.0, *accumulate(column.total / column.count for column in columns)]
    reach = len(columns) // (2 * SMOOTHING)
    smoothed = []
    for position in range(len(columns)):
        side = min(reach, position, len(columns) - 1 - position)
        smoothed.append((sums[position + side + 1] - sums[position - side]) / (2 * side + 1))
    return smoothed


def plot(curve: Curve, width: int, height: int, *, braille: bool = True) -> list[Line]:
    """The curve as ``height`` lines of ``width`` cells: its range in dim dots, its moving average in bright ones.

    Args:
        curve: What to draw.
        width: Cells, of which a few go to the labels of the axis.
        height: Lines.
        braille: Eight dots a cell; else one sign a cell, in ASCII.
    """
    columns = curve.columns(1)
    if not columns or width < 12 or height < 2:
        return [[Segment(" " * width)] for _ in range(height)]
    across, down = (2, 4) if braille else (1, 1)
    low, high = _range(curve)
    labels = _labels(low, high, height)
    cells = width - len(labels[0]) - 1
    columns = curve.columns(cells * across)
    canvas = _Canvas(cells, height, across, down)
    scale = (height * down - 1) / (high - low)

    def row(value: float) -> int:
        return round((high - min(max(value, low), high)) * scale)

    previous = None
    for column, average in zip(columns, smooth(columns), strict=True):
        canvas.mark(canvas.raw, column.index, row(column.high), row(column.low))
        here = (column.index, row(average))
        canvas.join(previous or here, here)
        previous = here
    axis = ("│", "┤") if braille else ("|", "|")
    lines = []
    for number, label in enumerate(labels):
        mark = Segment(f"{label}{axis[bool(label.strip())]}", LABEL)
        lines.append([mark, *(canvas.braille(number) if braille else canvas.ascii(number))])
    return lines


class _Canvas:
    """Dots of two curves; bits of a column are rows from the top down."""

    def __init__(self, cells: int, height: int, across: int, down: int) -> None:
        self._cells, self._height, self._across, self._down = cells, height, across, down
        self.raw = [0] * (cells * across)
        self.smooth = [0] * (cells * across)

    def mark(self, dots: list[int], column: int, top: int, bottom: int) -> None:
        """Set the dots of a column from one row to another."""
        dots[column] |= (1 << (bottom + 1)) - (1 << top)

    def join(self, start: tuple[int, int], end: tuple[int, int]) -> None:
        """Draw the smoothed curve from a dot to one that is not left of it."""
        (left, above), (right, below) = start, end
        last = above
        for column in range(left, right + 1):
            row = above if right == left else round(above + (below - above) * (column - left) / (right - left))
            self.mark(self.smooth, column, min(last, row), max(last, row))
            last = row

    def braille(self, line: int) -> Line:
        """One line of characters."""
        runs: list[tuple[str, Style]] = []
        for cell in range(self._cells):
            bright = self._bits(self.smooth, cell, line)
            character = chr(BRAILLE | bright | self._bits(self.raw, cell, line))
            _append(runs, character, SMOOTH if bright else RAW)
        return [Segment(text, style) for text, style in runs]

    def ascii(self, line: int) -> Line:
        """One line of characters."""
        runs: list[tuple[str, Style]] = []
        for cell in range(self._cells):
            bright, dim = (dots[cell] >> line & 1 for dots in (self.smooth, self.raw))
            _append(runs, "*" if bright else "." if dim else " ", SMOOTH if bright else RAW)
        return [Segment(text, style) for text, style in runs]

    def _bits(self, dots: list[int], cell: int, line: int) -> int:
        bits = 0
        for side in (0, 1):
            part = dots[2 * cell + side] >> (4 * line) & 0xF
            if part:
                bits |= sum(dot for row, dot in enumerate(DOTS[side]) if part >> row & 1)
        return bits


def _append(runs: list[tuple[str, Style]], character: str, style: Style) -> None:
    if runs and runs[-1][1] is style:
        runs[-1] = (runs[-1][0] + character, style)
    else:
        runs.append((character, style))


def _range(curve: Curve) -> tuple[float, float]:
    """Lowest and highest value of the axis: of nearly all points, so that one spike does not flatten the rest."""
    means = sorted(bucket.total / bucket.count for bucket in curve.buckets)
    cut = int(len(means) * QUANTILE)
    low, high = means[cut], means[len(means) - 1 - cut]
    margin = (high - low) * 0.05 or abs(high) * 0.05 or 0.5
    return low - margin, high + margin


def _labels(low: float, high: float, height: int) -> list[str]:
    """What stands left of each line, all of one length: the values at the top, the bottom and the middle."""
    rows = {0: high, height - 1: low}
    if height > 6:
        rows[height // 2] = high - (high - low) * (height // 2) / (height - 1)
    digits = min(6, max(0, 1 - math.floor(math.log10(high - low))))
    texts = {row: _number(value, digits) for row, value in rows.items()}
    longest = max(map(len, texts.values()))
    return [texts.get(row, "").rjust(longest) for row in range(height)]


def _number(value: float, digits: int) -> str:
    text = f"{value:.{digits}f}"
    return text if len(text) <= 7 else f"{value:.1e}"
