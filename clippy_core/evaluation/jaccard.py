"""Do segments that were found without labels follow the objects? The paper's Jaccard similarity (JS).

Every object has the segment that fits it best; JS is the mean of those intersections over unions.

Shapes: H/W pixel, N object, S segment.
Source: *Perceptual Grouping in Contrastive Vision-Language Models* (arXiv 2210.09996), section 4.
"""

import numpy as np

from clippy_core.errors import DataError

UNIT = 1 << 32


def best_overlaps(objects_HW: np.ndarray, segments_HW: np.ndarray, ignore: int | None = None) -> np.ndarray:
    """For each object, the intersection over union with the segment where it is largest: 0…1, shape (N,).

    Args:
        objects_HW: Number of the object at every pixel, from 1; 0 where there is none. Objects without a pixel have
            no value.
        segments_HW: Number of the segment at every pixel, from 0.
        ignore: Value in ``objects_HW`` of pixels that count for nothing; None if there is none.

    Raises:
        DataError: The shapes differ.
    """
    if objects_HW.shape != segments_HW.shape:
        raise DataError(f"objects of shape {objects_HW.shape} and segments of shape {segments_HW.shape}")
    objects_M, segments_M = objects_HW.ravel().astype(np.int64), segments_HW.ravel().astype(np.int64)
    if ignore is not None:
        objects_M, segments_M = objects_M[objects_HW.ravel() != ignore], segments_M[objects_HW.ravel() != ignore]
    if not objects_M.size:
        return np.zeros(0)
    count = int(segments_M.max()) + 1
    both_NS = np.bincount(objects_M * count + segments_M, minlength=(int(objects_M.max()) + 1) * count)
    both_NS = both_NS.reshape(-1, count)
    union_NS = both_NS.sum(1, keepdims=True) + both_NS.sum(0) - both_NS
    present_N = both_NS[1:].sum(1) > 0
    return (both_NS[1:][present_N] / np.maximum(union_NS[1:][present_N], 1)).max(1)


class Jaccard:
    """The mean over objects, picture by picture.

    Overlaps are added up as whole numbers of 2⁻³², so neither the order of pictures nor how many processes share them
    changes the mean. Counts of several processes are added: ``jaccard.counts += other.counts``.

    Attributes:
        counts: Sum of overlaps in units of 2⁻³², and how many objects; ``int64`` of shape (2,).
    """

    def __init__(self) -> None:
        self.counts = np.zeros(2, np.int64)

    def add(self, objects_HW: np.ndarray, segments_HW: np.ndarray, ignore: int | None = None) -> None:
        """Add the objects of a picture; see :func:`best_overlaps`."""
        self.add_overlaps(best_overlaps(objects_HW, segments_HW, ignore))

    def add_overlaps(self, overlaps_N: np.ndarray) -> None:
        """Add objects whose best overlaps are known, 0…1."""
        self.counts += np.array([np.rint(overlaps_N * UNIT).astype(np.int64).sum(), len(overlaps_N)])

    @property
    def mean(self) -> float:
        """JS, 0…1; NaN without an object."""
        total, objects = self.counts.tolist()
        return total / UNIT / objects if objects else float("nan")
