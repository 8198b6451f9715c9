"""Zero-shot classification: is the right class among the likeliest?

Shapes: B picture, C class.
"""

import numpy as np

from clippy_core.errors import DataError


class TopK:
    """Counts of right answers, batch by batch.

    Counts of several processes are added: ``top.counts += other.counts``.

    Args:
        classes: How many classes there are.
        ks: How many answers are allowed.

    Attributes:
        counts: ``int64`` of shape (C, 1 + number of ks): pictures of the class, then right ones for each k.
    """

    def __init__(self, classes: int, ks: tuple[int, ...] = (1, 5)) -> None:
        self.ks = ks
        self.counts = np.zeros((classes, 1 + len(ks)), np.int64)

    def add(self, scores_BC: np.ndarray, truth_B: np.ndarray) -> None:
        """Count a batch; equal scores count against the model.

        Raises:
            DataError: Shapes that do not fit, or a class that does not exist.
        """
        classes = len(self.counts)
        if scores_BC.shape != (len(truth_B), classes) or ((truth_B < 0) | (truth_B >= classes)).any():
            raise DataError(f"scores of shape {scores_BC.shape} do not fit {len(truth_B)} of {classes} classes")
        own_B1 = np.take_along_axis(scores_BC, truth_B[:, None].astype(np.int64), 1)
        before_B = (scores_BC >= own_B1).sum(1) - 1
        found_BK = np.stack([np.ones(len(truth_B), bool), *(before_B < k for k in self.ks)], 1)
        np.add.at(self.counts, truth_B, found_BK)

    def accuracy(self, k: int = 1) -> float:
        """Share of pictures whose class is among the ``k`` likeliest; NaN without a picture."""
        total, right = self.counts[:, 0].sum(), self.counts[:, 1 + self.ks.index(k)].sum()
        return float(right / total) if total else float("nan")

    def per_class(self, k: int = 1) -> np.ndarray:
        """The same for every class, shape (C,); NaN for a class without a picture."""
        total_C, right_C = self.counts[:, 0], self.counts[:, 1 + self.ks.index(k)]
        return np.divide(right_C, total_C, out=np.full(len(total_C), np.nan), where=total_C > 0)
