"""What a segmentation is: a label for every pixel, and what can be said about it."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from clippy_core.images import Picture
from clippy_core.segmentation.palette import label_colours
from clippy_core.version import __version__

if TYPE_CHECKING:
    from PIL import Image

DEFAULT_WRITERS = ("overlay", "labelmap", "json")


class LabelSummary(NamedTuple):
    """What one label got.

    Attributes:
        index: Its value in the label map.
        name: What it is called.
        pixels: How many pixels carry it.
        fraction: ``pixels`` over all pixels, 0…1.
        score: The highest cosine of any location with the label, −1…1, whether or not it won there; NaN for a
            background that is a rule on certainty, with which nothing is compared.
        bbox: The smallest box around its pixels, (x, y, width, height); all 0 where it has none.
    """

    index: int
    name: str
    pixels: int
    fraction: float
    score: float
    bbox: tuple[int, int, int, int]


def rounded(score: float) -> float | None:
    """A score as it is written, to five places; None for one that there is not, because JSON has no NaN."""
    return None if math.isnan(score) else round(score, 5)


@dataclass(frozen=True)
class Segmentation:
    """A label for every pixel of one picture.

    Attributes:
        picture: The picture as displayed, at its own size.
        label_map: H×W, ``uint8`` up to 255 labels, else ``uint16``: the index into ``labels`` at every pixel; the
            dtype's largest value means *not decided*.
        labels: Names; index 0 is ``background`` if ``has_background``.
        scores: ``float32``, one a label: the highest cosine of any location with it, −1…1; NaN for a background that
            is a rule on certainty.
        score_map: ``float32`` H×W, the winner's cosine at every pixel, or None if it was not asked for.
        has_background: Whether label 0 stands for *none of these*.
        model: Name of the model.
        source: Where the picture came from.
        kernel: Which implementation computed the label map, and why.
        seconds: Wall time of each step, in seconds.
        score_grid: ``float32`` h×w×K on the model's grid: the cosine of every location with every label that the model
            compared (a background that is a rule on certainty is none of them), or None if it was not asked for.
    """

    picture: Picture
    label_map: np.ndarray
    labels: tuple[str, ...]
    scores: np.ndarray
    score_map: np.ndarray | None = None
    has_background: bool = False
    model: str = ""
    source: str = "image"
    kernel: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    score_grid: np.ndarray | None = None

    @property
    def height(self) -> int:
        """Height in pixels."""
        return self.label_map.shape[0]

    @property
    def width(self) -> int:
        """Width in pixels."""
        return self.label_map.shape[1]

    @property
    def undecided(self) -> int:
        """The value in the label map that stands for *not decided*: 255 or 65535."""
        return int(np.iinfo(self.label_map.dtype).max)

    @cached_property
    def colours(self) -> np.ndarray:
        """RGB colour of each label, ``uint8`` of shape (K, 3)."""
        return label_colours(len(self.labels), background=self.has_background)

    @cached_property
    def pixel_counts(self) -> np.ndarray:
        """How many pixels each label has, ``int64`` of length K."""
        return np.array([label.pixels for label in self._summary], dtype=np.int64)

    def summary(self) -> list[LabelSummary]:
        """Every label in order, those without a pixel included."""
        return list(self._summary)

    @cached_property
    def _summary(self) -> tuple[LabelSummary, ...]:
        # Runs of equal labels along the rows are few; counting them costs one pass over the pixels for all labels.
        height, width = self.label_map.shape
        starts = np.ones((height, width), dtype=bool)
        np.not_equal(self.label_map[:, 1:], self.label_map[:, :-1], out=starts[:, 1:])
        start_R = np.flatnonzero(starts)
        length_R = np.diff(start_R, append=height * width)
        label_R = self.label_map.ravel()[start_R]
        top_R, left_R = np.divmod(start_R, width)
        size = self.undecided + 1
        pixels = np.bincount(label_R, weights=length_R, minlength=size).astype(np.int64)
        left, right, top, bottom = (np.full(size, fill) for fill in (width, 0, height, 0))
        np.minimum.at(left, label_R, left_R)
        np.maximum.at(right, label_R, left_R + length_R)
        np.minimum.at(top, label_R, top_R)
        np.maximum.at(bottom, label_R, top_R + 1)
        boxes = np.stack([left, top, right - left, bottom - top], axis=1)[: len(self.labels)]
        pixels = pixels[: len(self.labels)]
        boxes[pixels == 0] = 0
        return tuple(
            LabelSummary(index, name, count, count / (height * width), score, (box[0], box[1], box[2], box[3]))
            for index, (name, count, score, box) in enumerate(
                zip(self.labels, pixels.tolist(), self.scores.tolist(), boxes.tolist(), strict=True)
            )
        )

    def masks(self) -> dict[str, np.ndarray]:
        """Boolean H×W mask of every label that has a pixel, by name, in label order."""
        return {name: self.label_map == index for index, name in enumerate(self.labels) if self.pixel_counts[index]}

    def overlay(self, *, annotated: bool = True) -> "Image.Image":
        """The picture at its own size, tinted by label; with outlines, names in place and a legend if ``annotated``."""
        from PIL import Image

        from clippy_core.segmentation.overlay import draw_overlay, tint

        return Image.fromarray(draw_overlay(self) if annotated else tint(self))

    def to_dict(self) -> dict[str, Any]:
        """The contents of the ``.json`` output."""
        return {
            "image": self.source,
            "width": self.width,
            "height": self.height,
            "model": self.model,
            "labels": [
                {**label._asdict(), "fraction": round(label.fraction, 6), "score": rounded(label.score)}
                for label in self.summary()
            ],
            "notes": list(self.picture.notes),
            "seconds": {step: round(seconds, 4) for step, seconds in self.seconds.items()},
            "version": __version__,
        }

    def to_coco(self, *, image_id: int = 1) -> dict[str, Any]:
        """This picture as a COCO data set with compressed RLE that ``pycocotools`` decodes; category id = index + 1.

        The background, if there is one, is no category.
        """
        from clippy_core.segmentation.writers.coco import annotations

        first = 1 if self.has_background else 0
        return {
            "info": {"description": f"segmented by {self.model}", "version": __version__},
            "images": [{"id": image_id, "file_name": self.source, "width": self.width, "height": self.height}],
            "categories": [{"id": i + 1, "name": self.labels[i]} for i in range(first, len(self.labels))],
            "annotations": [
                {"id": number, "image_id": image_id, **annotation}
                for number, annotation in enumerate(annotations(self), 1)
            ],
        }

    def save(self, path: str | os.PathLike[str], writers: Sequence[str] = DEFAULT_WRITERS) -> list[Path]:
        """Write outputs beside each other: ``path`` + ``.overlay.png``, ``.labels.png``, ``.json``, ….

        Args:
            path: Folder and stem, without a suffix.
            writers: Names from the writer registry.

        Returns:
            The files written, each of them whole.

        Raises:
            UsageError: An unknown writer.
            OSError: The folder cannot be written.
        """
        from clippy_core.segmentation.writers import WRITERS

        loaded = [WRITERS.load(name) for name in writers]
        return [file for write in loaded for file in write(self, Path(path))]
