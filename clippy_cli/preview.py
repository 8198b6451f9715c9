"""A picture in the terminal: two pixels a character, as half blocks in 24-bit colour (or what the terminal has)."""

from collections.abc import Iterator

from PIL import Image
from rich.color import Color
from rich.console import Console, ConsoleOptions
from rich.segment import Segment
from rich.style import Style

MAX_COLUMNS = 100


def can_show(console: Console) -> bool:
    """Whether a picture would be one there: without colours it is a grey block."""
    return console.color_system is not None and not console.no_color


class HalfBlocks:
    """A Rich renderable; as wide as the console, at most 100 columns, never taller than it is useful.

    Args:
        image: RGB.
    """

    def __init__(self, image: Image.Image) -> None:
        self.image = image

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        columns = max(1, min(options.max_width, MAX_COLUMNS, self.image.width))
        rows = max(1, round(columns * self.image.height / self.image.width / 2))
        pixels = self.image.convert("RGB").resize((columns, rows * 2), Image.Resampling.BOX)
        data = pixels.tobytes()
        for row in range(rows):
            for column in range(columns):
                upper, lower = ((2 * row + half) * columns + column for half in (0, 1))
                style = Style(
                    color=Color.from_rgb(*data[3 * upper : 3 * upper + 3]),
                    bgcolor=Color.from_rgb(*data[3 * lower : 3 * lower + 3]),
                )
                yield Segment("▀", style)
            yield Segment.line()
