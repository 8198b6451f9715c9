"""Label maps of fixed pictures at a few moments of a training, side by side, so that grouping is seen to grow."""

from dataclasses import dataclass
from typing import Any

from PIL import Image
from rich.console import Console
from rich.segment import Segment
from rich.style import Style

from clippy_cli.curves import Line
from clippy_cli.preview import HalfBlocks

MOMENTS = 12
THUMBNAIL = 64  # pixels; a terminal shows fewer
TILE_ROWS = (4, 10)
FEWEST = 3  # moments that are shown before a second picture is
NEWEST, EARLIER = Style(bold=True), Style(dim=True)


@dataclass(frozen=True)
class Moment:
    """The pictures after a step."""

    step: int
    pictures: tuple[Image.Image, ...]


class Filmstrip:
    """The first, the latest and at most ten moments between, about evenly spaced."""

    def __init__(self) -> None:
        self.moments: list[Moment] = []
        self._drawn: dict[tuple[int, int, tuple[int, int]], list[Line]] = {}

    def add(self, step: int, pictures: tuple[Any, ...]) -> None:
        """Keep the pictures of a validation, as RGB arrays (``uint8``, H×W×3); none are no moment."""
        if not pictures:
            return
        self.moments.append(Moment(step, tuple(_thumbnail(picture) for picture in pictures)))
        if len(self.moments) > MOMENTS:
            steps = [moment.step for moment in self.moments]
            gaps = {index: steps[index + 1] - steps[index - 1] for index in range(1, MOMENTS)}
            del self.moments[min(gaps, key=lambda index: gaps[index])]

    def draw(self, console: Console, width: int, height: int) -> list[Line]:
        """Moments from left to right, the newest last, each with its step above; at most ``height`` lines."""
        if not self.moments or height <= TILE_ROWS[0]:
            return []
        newest = self.moments[-1].pictures
        down = max(1, min(len(newest), (height - 1) // 6))
        rows = min(TILE_ROWS[1], height // down - 1)
        columns = round(2 * rows * newest[0].width / newest[0].height)
        fitting = (width + 1) // (columns + 1)
        if fitting < 1:
            return []
        across = max(1, min(-(-len(newest) // down), fitting // min(FEWEST, len(self.moments))))
        group = across * (columns + 1) + (across > 1)
        moments = self._spread(max(1, (width + 1 + (across > 1)) // group))
        lines: list[Line] = [
            [
                segment
                for moment in moments
                for segment in _caption(moment.step, group, NEWEST if moment is moments[-1] else EARLIER)
            ]
        ]
        for first in range(0, min(len(newest), down * across), across):
            lines += [[]] if first else []
            lines += [
                self._row(console, moments, range(first, first + across), (columns, rows), row) for row in range(rows)
            ]
        return lines

    def _spread(self, count: int) -> list[Moment]:
        if count >= len(self.moments):
            return self.moments
        if count == 1:
            return self.moments[-1:]
        last = len(self.moments) - 1
        return [self.moments[round(index * last / (count - 1))] for index in range(count)]

    def _row(self, console: Console, moments: list[Moment], indices: range, size: tuple[int, int], row: int) -> Line:
        """A line through the tiles that stand beside each other."""
        line: Line = []
        for moment in moments:
            for index in indices:
                line += [*self._tile(console, moment, index, size)[row], Segment(" ")]
            line += [Segment(" ")] * (len(indices) > 1)
        return line

    def _tile(self, console: Console, moment: Moment, index: int, size: tuple[int, int]) -> list[Line]:
        """A picture in a box of so many columns and rows; drawn once."""
        columns, rows = size
        key = (moment.step, index, size)
        if key not in self._drawn:
            if len(self._drawn) > 8 * MOMENTS:
                self._drawn.clear()
            lines: list[Line] = []
            if index < len(moment.pictures):
                options = console.options.update(width=columns)
                lines = console.render_lines(HalfBlocks(moment.pictures[index]), options, pad=False)[:rows]
            lines += [[]] * (rows - len(lines))
            self._drawn[key] = [Segment.adjust_line_length(line, columns) for line in lines]
        return self._drawn[key]


def _thumbnail(picture: Any) -> Image.Image:
    image = Image.fromarray(picture)
    image.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
    return image


def _caption(step: int, width: int, style: Style) -> Line:
    text = f"step {step:,}"
    if len(text) >= width:
        text = f"{step:,}"
    return Segment.adjust_line_length([Segment(text, style)], width)
