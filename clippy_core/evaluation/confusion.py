"""Which class was taken for which, pixel by pixel: exact counts, and the figures that follow from them.

Shapes: C class, H/W pixel.
"""

import numpy as np

from clippy_core.errors import DataError


class Confusion:
    """A confusion matrix that grows picture by picture.

    Counts of several processes are added: ``confusion.counts += other.counts``.

    Args:
        classes: How many classes there are.
        ignore: Value of true pixels that are not counted; None if there is none.

    Attributes:
        counts: ``int64`` of shape (C, C + 1): true class, predicted class. The last column counts pixels that got no
            class, such as undecided ones; they are misses of their true class and no class's false alarms.
    """

    def __init__(self, classes: int, ignore: int | None = None) -> None:
        self.classes = classes
        self.ignore = ignore
        self.counts = np.zeros((classes, classes + 1), np.int64)

    def add(self, truth_HW: np.ndarray, predicted_HW: np.ndarray) -> None:
        """Count the pixels of a picture.

        Args:
            truth_HW: True classes, whole numbers, of any shape.
            predicted_HW: Predicted classes of the same shape; what is not in 0…C − 1 is no class.

        Raises:
            DataError: The shapes differ, or a true pixel has neither a class nor the ignored value.
        """
        if truth_HW.shape != predicted_HW.shape:
            raise DataError(f"a mask of shape {truth_HW.shape} and a label map of shape {predicted_HW.shape}")
        truth_N, predicted_N = truth_HW.ravel().astype(np.int64), predicted_HW.ravel().astype(np.int64)
        if self.ignore is not None:
            counted_N = truth_N != self.ignore
            truth_N, predicted_N = truth_N[counted_N], predicted_N[counted_N]
        wrong_N = truth_N[(truth_N < 0) | (truth_N >= self.classes)]
        if wrong_N.size:
            raise DataError(
                f"a mask has the value {wrong_N[0]}; accepted: 0 to {self.classes - 1}"
                + (f", and {self.ignore} for pixels that are not counted" if self.ignore is not None else "")
            )
        predicted_N = np.where((predicted_N < 0) | (predicted_N >= self.classes), self.classes, predicted_N)
        cells = np.bincount(truth_N * (self.classes + 1) + predicted_N, minlength=self.counts.size)
        self.counts += cells.reshape(self.counts.shape)

    @property
    def iou(self) -> np.ndarray:
        """Intersection over union of every class, 0…1; NaN for one that was neither there nor predicted."""
        right_C = np.diagonal(self.counts)
        union_C = self.counts.sum(1) + self.counts[:, :-1].sum(0) - right_C
        return np.divide(right_C, union_C, out=np.full(self.classes, np.nan), where=union_C > 0)

    @property
    def miou(self) -> float:
        """Mean of :attr:`iou` over classes that were there or predicted; NaN if nothing was counted."""
        present = self.iou[~np.isnan(self.iou)]
        return float(present.mean()) if present.size else float("nan")

    @property
    def accuracy(self) -> float:
        """Share of counted pixels with their true class; NaN if nothing was counted."""
        total = int(self.counts.sum())
        return int(np.trace(self.counts)) / total if total else float("nan")

    @property
    def accuracies(self) -> np.ndarray:
        """Share of the pixels of every class that got it, 0…1; NaN for one that was not there."""
        right_C, there_C = np.diagonal(self.counts), self.counts.sum(1)
        return np.divide(right_C, there_C, out=np.full(self.classes, np.nan), where=there_C > 0)

    @property
    def mean_accuracy(self) -> float:
        """Mean of :attr:`accuracies` over classes that were there; NaN if nothing was counted."""
        present = self.accuracies[~np.isnan(self.accuracies)]
        return float(present.mean()) if present.size else float("nan")

    @property
    def weighted_iou(self) -> float:
        """Mean of :attr:`iou` weighted by how many true pixels a class has; NaN if nothing was counted."""
        there_C, total = self.counts.sum(1), int(self.counts.sum())
        return float((np.nan_to_num(self.iou) * there_C).sum() / total) if total else float("nan")
