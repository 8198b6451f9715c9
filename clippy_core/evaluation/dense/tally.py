"""What was found on the pictures so far: whole counts, and a line a picture.

Shapes: C class, N picture, F figure of a picture, H/W pixel.
"""

from typing import Any

import numpy as np

from clippy_core.evaluation.confusion import Confusion
from clippy_core.evaluation.dense.masks import ignored_value
from clippy_core.evaluation.jaccard import Jaccard, best_overlaps

FIGURES = ("mIoU", "pixel accuracy", "JS", "objects", "seconds")


class Tally:
    """Counts over pictures.

    Args:
        classes: How many classes there are.
        pictures: How many pictures there are.

    Attributes:
        confusion: Pixels by true and predicted class.
        jaccard: Overlaps of objects with segments.
        done_N: Which pictures are counted, ``int64`` 0 or 1.
        figures_NF: :data:`FIGURES` of each, ``float64``; NaN where there is none, 0 for pictures that are not counted.
    """

    def __init__(self, classes: int, pictures: int) -> None:
        self.confusion = Confusion(classes, ignored_value(classes))
        self.jaccard = Jaccard()
        self.done_N = np.zeros(pictures, np.int64)
        self.figures_NF = np.zeros((pictures, len(FIGURES)))

    def add(
        self,
        index: int,
        *,
        labels: tuple[np.ndarray, np.ndarray] | None = None,
        segments: tuple[np.ndarray, np.ndarray] | None = None,
        seconds: float = 0.0,
    ) -> None:
        """Count a picture.

        Args:
            index: Which.
            labels: Mask and label map H×W, or None.
            segments: Numbers of objects and of segments H×W, or None.
            seconds: How long it took.

        Raises:
            DataError: Shapes that do not fit, or a mask with a value that is no class.
        """
        assert not self.done_N[index], f"picture {index} is counted twice"
        miou, accuracy, js, objects = float("nan"), float("nan"), float("nan"), 0
        if labels is not None:
            one = Confusion(self.confusion.classes, self.confusion.ignore)
            one.add(*labels)
            miou, accuracy = one.miou, one.accuracy
            self.confusion.counts += one.counts
        if segments is not None:
            overlaps_O = best_overlaps(segments[0], segments[1], -1)
            self.jaccard.add_overlaps(overlaps_O)
            objects = len(overlaps_O)
            js = float(overlaps_O.mean()) if objects else float("nan")
        self.figures_NF[index] = miou, accuracy, js, objects, seconds
        self.done_N[index] = 1

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything, by name; what :meth:`absorb` takes."""
        return {
            "confusion": self.confusion.counts,
            "jaccard": self.jaccard.counts,
            "done": self.done_N,
            "figures": self.figures_NF,
        }

    def absorb(self, arrays: dict[str, np.ndarray]) -> None:
        """Add the counts of other pictures.

        Raises:
            ValueError: They are of other shapes or types, or have a picture that is counted already.
            KeyError: Some are missing.
        """
        own = self.arrays()
        for name, array in own.items():
            if arrays[name].shape != array.shape or arrays[name].dtype != array.dtype:
                raise ValueError(
                    f"{name} is {arrays[name].dtype} {arrays[name].shape}, not {array.dtype} {array.shape}"
                )
        if (self.done_N + arrays["done"]).max(initial=0) > 1:
            raise ValueError("a picture is counted twice")
        for name, array in own.items():
            array += arrays[name]

    def rows(self, names: list[str]) -> list[dict[str, Any]]:
        """One mapping a counted picture: its name and figures, None where there is none."""
        return [
            {"picture": names[index]}
            | {
                key: None if np.isnan(value) else int(value) if key == "objects" else float(value)
                for key, value in zip(FIGURES, self.figures_NF[index], strict=True)
            }
            for index in np.flatnonzero(self.done_N)
        ]
