"""What is said of a video: its labels over all frames, and their shares of each."""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from clippy_core.files import atomic_write, refuse_foreign, to_json
from clippy_core.segmentation.result import Segmentation, rounded
from clippy_core.segmentation.video.reading import Frame
from clippy_core.segmentation.writers import JSON_KINDS, with_suffix
from clippy_core.version import __version__


@dataclass
class Totals:
    """All frames so far, added up.

    Attributes:
        frames: How many.
        until: When the last of them is shown, in seconds.
        width: Width in pixels.
        height: Height in pixels.
        model: Name of the model.
        labels: Names of the labels.
        pixels_K: Pixels of each label in all frames.
        score_K: The highest score of each label in any frame; NaN for one that has none.
    """

    frames: int = 0
    until: float = 0.0
    width: int = 0
    height: int = 0
    model: str = ""
    labels: tuple[str, ...] = ()
    pixels_K: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    score_K: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))

    def add(self, frame: Frame, result: Segmentation) -> None:
        """Add a frame."""
        if not self.frames:
            self.width, self.height, self.model, self.labels = result.width, result.height, result.model, result.labels
            self.pixels_K, self.score_K = np.zeros(len(result.labels), np.int64), result.scores
        self.pixels_K = self.pixels_K + result.pixel_counts
        self.score_K = np.maximum(self.score_K, result.scores)
        self.frames, self.until = self.frames + 1, frame.seconds

    @property
    def shares(self) -> dict[str, float]:
        """Share of the pixels of all frames, 0…1, of every label that has any."""
        return {label["name"]: label["fraction"] for label in self.rows() if label["pixels"]}

    def rows(self) -> Iterator[dict[str, Any]]:
        """Every label in order."""
        total = max(1, self.width * self.height * self.frames)
        for index, name in enumerate(self.labels):
            pixels = int(self.pixels_K[index])
            share, score = round(pixels / total, 6), rounded(float(self.score_K[index]))
            yield {"index": index, "name": name, "pixels": pixels, "fraction": share, "score": score}


class Timeline:
    """The ``.json`` of a video while it grows.

    The lines about frames wait in a file of their own, because what stands before them is known only at the end.

    Args:
        stem: Folder, which is there, and name without a suffix.
    """

    def __init__(self, stem: Path) -> None:
        self._path = with_suffix(stem, ".json")
        refuse_foreign(self._path, *JSON_KINDS)  # now, and not after hours of work
        self._lines: IO[bytes] = tempfile.TemporaryFile(dir=stem.parent)  # noqa: SIM115
        self._empty = True

    def add(self, frame: Frame, result: Segmentation) -> None:
        """Note what a frame holds."""
        shares = {label.name: round(label.fraction, 6) for label in result.summary() if label.pixels}
        line = {"frame": frame.number, "seconds": round(frame.seconds, 4), "shares": shares}
        self._lines.write((b"\n" if self._empty else b",\n") + to_json(line).rstrip())
        self._empty = False

    def finish(self, source: str, rate: float, totals: Totals, notes: Sequence[str], *, complete: bool) -> list[Path]:
        """Write the document; nothing if there was no frame."""
        if self._empty:
            return []
        head = {
            "video": source,
            "width": totals.width,
            "height": totals.height,
            "model": totals.model,
            "frames": totals.frames,
            "fps": round(rate, 4),
            "until": round(totals.until, 4),
            "complete": complete,
            "labels": list(totals.rows()),
            "notes": list(notes),
            "version": __version__,
        }
        with atomic_write(self._path) as file:
            file.write(to_json(head, indent=2).rstrip()[:-2] + b',\n  "timeline": [')
            self._lines.seek(0)
            while block := self._lines.read(1 << 20):
                file.write(block)
            file.write(b"]\n}\n")
        return [self._path]

    def discard(self) -> None:
        """Let go of the lines."""
        self._lines.close()
