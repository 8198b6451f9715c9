"""Principal components over the locations of any number of pictures, exact, in memory that does not grow with them.

Shapes: P location, D embedding, C component.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Basis:
    """Directions in which features differ most.

    Attributes:
        mean_D: The mean feature.
        components_CD: Unit directions, the most telling first; the entry of largest size of each is positive.
        share_C: How much of the variance lies along each, 0…1.
        rank: Effective number of directions: the exponential of the entropy of all shares.
    """

    mean_D: np.ndarray
    components_CD: np.ndarray
    share_C: np.ndarray
    rank: float

    def project(self, features_PD: np.ndarray) -> np.ndarray:
        """Scores of locations along each component, ``float32`` (P, C)."""
        return ((features_PD - self.mean_D) @ self.components_CD.T).astype(np.float32)


class Principal:
    """Adds up what principal components need: how many locations, their sum and their products.

    Sums are of what is left after the first picture's mean, so that nothing cancels out.
    """

    def __init__(self) -> None:
        self.count = 0
        self._shift_D = np.zeros(0, np.float32)
        self._sum_D = np.zeros(0)
        self._products_DD = np.zeros((0, 0))

    def add(self, features_PD: np.ndarray) -> None:
        """Add the locations of a picture, ``float32``."""
        if not self.count:
            self._shift_D = features_PD.mean(0)
            self._sum_D = np.zeros(features_PD.shape[1])
            self._products_DD = np.zeros((features_PD.shape[1],) * 2)
        shifted_PD = features_PD - self._shift_D
        self.count += len(shifted_PD)
        self._sum_D += shifted_PD.sum(0, dtype=np.float64)
        self._products_DD += shifted_PD.T @ shifted_PD

    def basis(self, components: int) -> Basis:
        """The first ``components`` directions, or as many as there are channels."""
        assert self.count, "nothing was added"
        mean_D = self._sum_D / self.count
        covariance_DD = self._products_DD / self.count - np.outer(mean_D, mean_D)
        values_D, directions_DD = np.linalg.eigh(covariance_DD)
        variances_D = np.maximum(values_D[::-1], 0)  # eigenvalues come in ascending order
        components_CD = directions_DD.T[::-1][:components]
        largest_C1 = np.abs(components_CD).argmax(1)[:, None]
        components_CD = components_CD * np.sign(np.take_along_axis(components_CD, largest_C1, 1))
        shares_D = variances_D / max(variances_D.sum(), 1e-30)
        return Basis(
            (self._shift_D + mean_D).astype(np.float32),
            components_CD.astype(np.float32),
            shares_D[:components],
            effective_number(shares_D),
        )


def effective_number(shares: np.ndarray) -> float:
    """How many equal parts are as uneven as these: the exponential of their entropy; 1 if one has all.

    Args:
        shares: Parts of a whole, not negative; their sum need not be 1.
    """
    total = float(shares.sum())
    if total <= 0:
        return 0.0
    parts = shares[shares > 0] / total
    return float(np.exp(-(parts * np.log(parts)).sum()))
