"""Choosing the limit below which a pixel is background, on pictures that are then not reported.

Shapes: T limit, C class, H/W pixel.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from clippy_core.evaluation.confusion import Confusion
from clippy_core.evaluation.dense.dataset import DenseDataset
from clippy_core.evaluation.dense.masks import ignored_value
from clippy_core.evaluation.options import Calibration
from clippy_core.evaluation.share import Share


@dataclass(frozen=True)
class Chosen:
    """What a sweep found.

    Attributes:
        value: The limit with the highest mIoU; of equal ones the lowest.
        mious: mIoU of every limit, 0…1.
        pictures: On how many pictures.
    """

    value: float
    mious: dict[float, float]
    pictures: int

    def tell(self, kind: str) -> str:
        """The choice in a few words."""
        return f"{kind}={self.value:g}, the best of {len(self.mious):,} (mIoU {self.mious[self.value]:.4g})"

    def describe(self, kind: str) -> dict[str, Any]:
        """As plain data, for reports."""
        return {
            "limit": f"{kind}={self.value:g}",
            "pictures": self.pictures,
            "mIoU by limit": {f"{value:g}": round(miou, 6) for value, miou in self.mious.items()},
            "note": "chosen on pictures that are not among those reported",
        }


def split(count: int, share: float) -> tuple[list[int], list[int]]:
    """Places of the pictures to choose on, evenly spaced, and of those to report; at least one each.

    Args:
        count: How many pictures there are, 2 or more.
        share: Which part is to choose on.
    """
    wanted = min(max(round(count * share), 1), count - 1)
    chosen = {(2 * number + 1) * count // (2 * wanted) for number in range(wanted)}
    return sorted(chosen), [index for index in range(count) if index not in chosen]


class Sweep:
    """Confusion at every limit at once.

    Args:
        dataset: What the classes are; it has a background.
        calibration: The limits.
    """

    def __init__(self, dataset: DenseDataset, calibration: Calibration) -> None:
        assert dataset.background is not None, "checked before"
        self.background = dataset.background
        self.values = tuple(sorted(set(calibration.values)))
        classes = len(dataset.classes)
        self.confusions = [Confusion(classes, ignored_value(classes)) for _ in self.values]

    def add(self, truth_HW: np.ndarray, labels_HW: np.ndarray, certainty_HW: np.ndarray) -> None:
        """Count a picture at every limit."""
        for value, confusion in zip(self.values, self.confusions, strict=True):
            confusion.add(truth_HW, limited(labels_HW, certainty_HW, value, self.background))

    def choose(self, share: Share, pictures: Iterable[int]) -> Chosen:
        """The best limit, the same in every process."""
        counts_TCC = share.add_up(np.stack([confusion.counts for confusion in self.confusions]))
        mious = {}
        for value, confusion, counts_CC in zip(self.values, self.confusions, counts_TCC, strict=True):
            confusion.counts = counts_CC
            mious[value] = confusion.miou
        best = max(self.values, key=lambda value: (np.nan_to_num(mious[value], nan=-1.0), -value))
        return Chosen(best, mious, len(list(pictures)))


def limited(labels_HW: np.ndarray, certainty_HW: np.ndarray, value: float, background: int | None) -> np.ndarray:
    """Labels with the background wherever the winner is less sure than ``value``."""
    assert background is not None, "checked before"
    return np.where(certainty_HW < value, background, labels_HW)
