"""The pictures of an analysis, one after another: bad ones are noted and passed over, and nothing of them is kept.

Shapes: H/W pixel.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clippy_core import events
from clippy_core.analysis.colours import fit
from clippy_core.analysis.report import Section, Table, safe_name
from clippy_core.errors import DataError
from clippy_core.images import Picture, read_picture
from clippy_core.segmentation.inputs import PICTURE, Input

FEW = 24
LARGE, SMALL = 640, 320
"""Longer side in pixels of drawn pictures: of a few, and of many."""
TINY = 256
"""Pictures with a longer side below it are enlarged as often as they stay below it."""
PART = 120
"""Bytes of a picture's name; what is drawn of it adds its own to that."""


@dataclass(frozen=True, eq=False)
class Shown:
    """A picture that could be read.

    Attributes:
        number: Its place among those that could be read, from 0.
        source: Where it came from.
        name: What its drawings are called: safe, and different from all others.
        pixels_HW3: ``uint8`` RGB, as displayed.
    """

    number: int
    source: str
    name: str
    pixels_HW3: np.ndarray


class Pictures:
    """Reads pictures and counts what became of them.

    Args:
        inputs: Which.
        sink: Told of each when its turn is over.
        strict: How many at the beginning must be usable.

    Attributes:
        failures: Those that could not be used, with the reason in one line.
        done: How many could.
    """

    def __init__(self, inputs: Sequence[Input], sink: events.Sink = events.ignore, *, strict: int = 0) -> None:
        self._inputs = inputs
        self._sink = sink
        self._strict = strict
        self.failures: list[tuple[str, str]] = []
        self.done = 0

    @property
    def total(self) -> int:
        """How many there are to read."""
        return len(self._inputs)

    @property
    def few(self) -> bool:
        """Whether there are so few that each can be drawn large and in every way."""
        return len(self._inputs) <= FEW

    def canvas(self, shown: Shown) -> np.ndarray:
        """A picture at the size that it is drawn with, ``uint8`` RGB; a tiny one is enlarged, pixel by pixel."""
        picture_HW3 = fit(shown.pixels_HW3, LARGE if self.few else SMALL)
        times = max(1, TINY // max(picture_HW3.shape[:2]))
        return picture_HW3.repeat(times, 0).repeat(times, 1)

    def __iter__(self) -> Iterator[Shown]:
        """Every usable picture.

        Raises:
            DataError: One of the first ``strict`` cannot be used.
            DataError: None can be used; the message has the first reason.
        """
        start = time.perf_counter()
        self._sink(events.BatchStarted(len(self._inputs), 0))
        names = unique_names([item.stem for item in self._inputs])
        for place, (item, name) in enumerate(zip(self._inputs, names, strict=True)):
            begin = time.perf_counter()
            try:
                picture = read_input(item)
            except (DataError, OSError) as error:
                reason = " ".join(str(error).split())
                if place < self._strict:
                    raise DataError(f"the first picture is needed, and cannot be used: {reason}") from error
                self.failures.append((item.source, reason))
                self._sink(events.ItemFinished(item.source, "failed", reason, time.perf_counter() - begin))
                continue
            shown = Shown(self.done, item.source, name, picture.pixels_HW3)
            del picture
            self.done += 1
            yield shown
            self._sink(events.ItemFinished(item.source, "ok", None, time.perf_counter() - begin))
        if not self.done:
            more = f"; {len(self.failures) - 1:,} more could not be used either" if len(self.failures) > 1 else ""
            raise DataError(f"{self.failures[0][1]}{more}")
        self._sink(events.BatchFinished(self.done, len(self.failures), 0, time.perf_counter() - start))


def read_input(item: Input) -> Picture:
    """Decode the picture of an input.

    Raises:
        DataError: It is a video, or cannot be used.
        OSError: The shard it lies in cannot be read.
    """
    if item.kind != PICTURE:
        raise DataError(f"{item.source}: a {item.kind}; accepted: pictures")
    return read_picture(item.open())


def unique_names(stems: Sequence[Path]) -> list[str]:
    """Names for drawings of pictures, folders kept as ``/``; each safe and no two alike, whatever the case."""
    taken: set[str] = set()
    names = []
    for stem in stems:
        wanted = "/".join(safe_name(part, PART) for part in stem.parts)
        name, number = wanted, 2
        while name.casefold() in taken:
            name, number = f"{wanted}-{number}", number + 1
        taken.add(name.casefold())
        names.append(name)
    return names


def left_out(failures: Sequence[tuple[str, str]]) -> tuple[Section, ...]:
    """A section about pictures that could not be used; none if there is nothing to say."""
    if not failures:
        return ()
    rows = tuple((source, reason.removeprefix(f"{source}: ")) for source, reason in failures)
    return (Section("Left out", tables=(Table("Pictures that could not be used", ("picture", "why"), rows),)),)
