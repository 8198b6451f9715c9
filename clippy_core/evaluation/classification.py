"""Zero-shot classification: is the right class among the likeliest?

Shapes: B picture, C class.
"""

import numpy as np

from clippy_core.errors import DataError


def ranks_of_truth(scores_BC: np.ndarray, truth_B: np.ndarray, *, in_order: bool = False) -> np.ndarray:
    """How many classes stand before the right one, ``int64`` of shape (B,): 0 if it is the model's answer.

    A score that is not a number stands before every other, unless it is the right class's own: then all others do.

    Args:
        scores_BC: A score for each class.
        truth_B: The right class of each picture, 0 to C − 1.
        in_order: Of equal scores, the class that comes first stands first, as in an arg-max. Without it, equal scores
            count against the model.

    Raises:
        DataError: Shapes that do not fit, or a class that does not exist.
    """
    classes = scores_BC.shape[-1]
    if scores_BC.shape != (len(truth_B), classes) or ((truth_B < 0) | (truth_B >= classes)).any():
        raise DataError(f"scores of shape {scores_BC.shape} do not fit {len(truth_B)} of {classes} classes")
    own_B1 = np.take_along_axis(scores_BC, truth_B[:, None].astype(np.int64), 1)
    before_BC = ~(scores_BC < own_B1)
    if in_order:
        before_BC &= (scores_BC != own_B1) | (np.arange(classes) < truth_B[:, None])
    before_BC[np.arange(len(truth_B)), truth_B] = False
    return before_BC.sum(1)


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
        if scores_BC.shape != (len(truth_B), len(self.counts)):
            raise DataError(
                f"scores of shape {scores_BC.shape} do not fit {len(truth_B)} of {len(self.counts)} classes"
            )
        self.add_ranks(ranks_of_truth(scores_BC, truth_B), truth_B)

    def add_ranks(self, ranks_B: np.ndarray, truth_B: np.ndarray) -> None:
        """Count a batch by what :func:`ranks_of_truth` gave for it."""
        found_BK = np.stack([np.ones(len(truth_B), bool), *(ranks_B < k for k in self.ks)], 1)
        np.add.at(self.counts, truth_B, found_BK)

    def accuracy(self, k: int = 1) -> float:
        """Share of pictures whose class is among the ``k`` likeliest; NaN without a picture."""
        total, right = self.counts[:, 0].sum(), self.counts[:, 1 + self.ks.index(k)].sum()
        return float(right / total) if total else float("nan")

    def per_class(self, k: int = 1) -> np.ndarray:
        """The same for every class, shape (C,); NaN for a class without a picture."""
        total_C, right_C = self.counts[:, 0], self.counts[:, 1 + self.ks.index(k)]
        return np.divide(right_C, total_C, out=np.full(len(total_C), np.nan), where=total_C > 0)
