"""Label borders that follow the picture: a guided filter over how likely each label is.

The grid of a tower is coarse, so borders between labels are smooth curves where the picture has edges. Within about one
cell around a location, the filter explains each label's likelihood as a linear function of colour; where the picture
has an edge, the likelihood has one too. What comes out is a finer grid, which a label map is made from as from any.

Shapes: h/w patch grid, y/x working pixel, K prompt, C candidate label, H/W pixel of the picture. Imports no torch.

Source: He, Sun and Tang, *Guided image filtering*, 2013, section 3.3 (guides in colour).
"""

from collections.abc import Sequence

import numpy as np

PIXELS_A_CELL = 16
LARGEST_SIDE = 1024
"""Working pixels along a side at most; a cell takes fewer then."""
MOST_CANDIDATES = 64
"""Labels in one picture above which it is left as it is: each takes a plane of the finer grid."""
SHARPNESS = 40.0
"""Factor on cosines before the softmax over the candidates."""
SMOOTHNESS = 1e-2
"""How much variance of colour, in squared units of 0…1, counts as an edge (the paper's epsilon)."""


def pixels_a_cell(grid: tuple[int, int]) -> int:
    """How many working pixels lie along a side of a cell of a grid (h, w)."""
    return min(PIXELS_A_CELL, max(1, LARGEST_SIDE // max(grid)))


def refine(
    logits_hwK: np.ndarray, pixels_HW3: np.ndarray, candidates_C: np.ndarray, groups_K: Sequence[int]
) -> np.ndarray:
    """How likely each candidate is, on a finer grid, with edges where the picture has some.

    Args:
        logits_hwK: Cosines of the locations, ``float32``.
        pixels_HW3: The picture, ``uint8`` RGB.
        candidates_C: Labels to choose from, ascending: those that win somewhere without refinement.
        groups_K: Label of each prompt, non-decreasing.

    Returns:
        ``float32`` of shape (y, x, C) with :func:`pixels_a_cell` rows and columns a cell; about 0…1, but the filter may
        go a little beyond.
    """
    import cv2

    rows, columns = logits_hwK.shape[:2]
    each = pixels_a_cell((rows, columns))
    size = columns * each, rows * each  # cv2 wants the width first
    guide_yx3 = cv2.resize(pixels_HW3, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    bounds = np.searchsorted(np.asarray(groups_K), np.stack([candidates_C, candidates_C + 1], 1))
    likely_yxC = np.stack(
        [cv2.resize(logits_hwK[..., first:end].max(-1), size, interpolation=cv2.INTER_LINEAR) for first, end in bounds],
        axis=-1,
    )
    likely_yxC -= likely_yxC.max(-1, keepdims=True)
    np.exp(likely_yxC * SHARPNESS, out=likely_yxC)
    likely_yxC /= likely_yxC.sum(-1, keepdims=True)
    follow = GuidedFilter(guide_yx3, each, SMOOTHNESS)
    for index in range(len(candidates_C)):
        likely_yxC[..., index] = follow(likely_yxC[..., index])
    return likely_yxC


class GuidedFilter:
    """What all planes that follow one picture share.

    Args:
        guide_yx3: The picture, ``float32``, 0…1.
        radius: Windows reach this many pixels beyond their centre.
        epsilon: See :data:`SMOOTHNESS`.
    """

    def __init__(self, guide_yx3: np.ndarray, radius: int, epsilon: float) -> None:
        self.radius = radius
        # Planes of their own: arithmetic on neighbouring numbers is several times as fast.
        self.guide = tuple(np.ascontiguousarray(guide_yx3[..., channel]) for channel in range(3))
        self.mean = tuple(self._mean(colour) for colour in self.guide)
        rr, rg, rb, gg, gb, bb = (
            self._mean(self.guide[i] * self.guide[j]) - self.mean[i] * self.mean[j]
            for i, j in ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))
        )
        rr, gg, bb = rr + epsilon, gg + epsilon, bb + epsilon
        # The inverse of a symmetric 3 × 3 matrix by its cofactors, at every pixel.
        cofactors = (gg * bb - gb**2, gb * rb - rg * bb, rg * gb - gg * rb, rr * bb - rb**2, rb * rg - rr * gb)
        determinant = rr * cofactors[0] + rg * cofactors[1] + rb * cofactors[2]
        self.inverse = tuple(cofactor / determinant for cofactor in (*cofactors, rr * gg - rg**2))

    def __call__(self, plane_yx: np.ndarray) -> np.ndarray:
        """The plane as a locally linear function of the guide's colours, ``float32`` of the same shape."""
        plane_yx = np.ascontiguousarray(plane_yx)
        mean_yx = self._mean(plane_yx)
        r, g, b = (
            self._mean(colour * plane_yx) - average * mean_yx
            for colour, average in zip(self.guide, self.mean, strict=True)
        )
        rr, rg, rb, gg, gb, bb = self.inverse
        slopes = (rr * r + rg * g + rb * b, rg * r + gg * g + gb * b, rb * r + gb * g + bb * b)
        for slope, average in zip(slopes, self.mean, strict=True):
            mean_yx = mean_yx - slope * average
        result_yx = self._mean(mean_yx)
        for slope, colour in zip(slopes, self.guide, strict=True):
            result_yx += self._mean(slope) * colour
        return result_yx

    def _mean(self, values_yx: np.ndarray) -> np.ndarray:
        import cv2

        side = 2 * self.radius + 1
        return cv2.blur(values_yx, (side, side), borderType=cv2.BORDER_REFLECT)
