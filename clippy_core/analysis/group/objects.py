"""Objects that were drawn by hand on the pictures of an analysis, from a folder laid out as for ``clippy eval folder``.

Shapes: H/W pixel, O object.
"""

import os
from pathlib import Path

import numpy as np

from clippy_core.errors import DataError, UsageError
from clippy_core.evaluation.benchmarks.folder import read
from clippy_core.evaluation.jaccard import Jaccard, best_overlaps
from clippy_core.segmentation.grouping import upsample_groups


class Objects:
    """Compares segments with objects, picture by picture, as the evaluation does.

    Args:
        folder: The data set.

    Attributes:
        jaccard: What was found so far; its mean is the JS.

    Raises:
        DataError: The folder is laid out otherwise.
        UsageError: It has no objects.
    """

    def __init__(self, folder: Path) -> None:
        self._dataset = read(folder)
        if self._dataset.read_objects is None:
            raise UsageError(
                f"--masks {folder}: no folder {folder / 'instances'}, which has the number of every object"
            )
        self._folder = folder
        self._by_path = {os.path.realpath(example.image): example for example in self._dataset.examples}
        self.jaccard = Jaccard()

    @property
    def notes(self) -> tuple[str, ...]:
        """What the data set's reader left out."""
        return self._dataset.notes

    def overlaps(self, source: str, groups_P: np.ndarray, grid: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
        """For each object of a picture the IoU with the segment that fits it best, (O,); empty without a mask.

        Args:
            source: The picture's path.
            groups_P: Group of every location.
            grid: (h, w).
            size: (H, W) of the picture as displayed.
        """
        example = self._by_path.get(os.path.realpath(source))
        if example is None:
            return np.zeros(0)
        assert self._dataset.read_objects is not None, "checked before"
        segments_HW = upsample_groups(groups_P.astype(np.uint8), grid, size)
        overlaps_O = best_overlaps(self._dataset.read_objects(example), segments_HW, -1)
        self.jaccard.add_overlaps(overlaps_O)
        return overlaps_O

    def check(self) -> None:
        """Make sure that something was compared.

        Raises:
            DataError: No picture of the run has an object.
        """
        if not self.jaccard.counts[1]:
            raise DataError(
                f"--masks {self._folder}: none of these pictures is in {self._folder / 'images'} and has an object; "
                "accepted: pictures of that folder"
            )
