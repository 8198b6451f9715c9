"""Segments without any label: which locations of a picture belong together, by their features alone.

Shapes: B picture, P = h·w location, D embedding, G centre, H/W pixel.
Source: *Perceptual Grouping in Contrastive Vision-Language Models* (arXiv 2210.09996), section 4: the first principal
components of a picture's own patch tokens are cluster centres, and each patch goes to the centre of highest cosine.
"""

import numpy as np
import torch
from torch import Tensor

from clippy_core.errors import DataError


def group_patches(features_PD: Tensor, k: int = 8) -> Tensor:
    """Number of the group of every location, 0…k − 1, ``int64`` of shape (P,); batches (B, P, D) give (B, P).

    Cosines are those of centred features, as principal components are directions away from the mean. A component's
    sign is chosen such that its entry of largest size is positive. Fewer than ``k`` groups may have a member.

    Raises:
        DataError: Features that are not P×D or B×P×D.
    """
    if features_PD.ndim not in (2, 3) or 0 in features_PD.shape:
        raise DataError(f"features must be locations × channels, or a batch of them, not {tuple(features_PD.shape)}")
    features_PD = features_PD.detach().double()
    centred_PD = features_PD - features_PD.mean(-2, keepdim=True)
    # A location's norm is the same for all centres, so the largest projection is the largest cosine.
    return (centred_PD @ _components(centred_PD, k).mT).argmax(-1)


def _components(centred_PD: Tensor, k: int) -> Tensor:
    """The first ``k`` principal directions as rows, shape (k, D), or as many as there are."""
    locations, channels = centred_PD.shape[-2:]
    # Eigenvectors of the smaller of two products cost far less than a singular value decomposition.
    if channels <= locations:
        _, directions_DG = torch.linalg.eigh(centred_PD.mT @ centred_PD)
    else:
        _, scores_PG = torch.linalg.eigh(centred_PD @ centred_PD.mT)
        directions_DG = torch.nn.functional.normalize(centred_PD.mT @ scores_PG, dim=-2)
    components_GD = directions_DG.mT.flip(-2)[..., :k, :]  # eigenvalues come in ascending order
    largest_G1 = components_GD.abs().argmax(-1, keepdim=True)
    return components_GD * components_GD.gather(-1, largest_G1).sign()


def upsample_groups(groups_P: np.ndarray, grid: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """Group of every pixel, shape (H, W): that of the location whose cell the pixel's centre lies in."""
    rows, columns = (
        ((np.arange(pixels) + 0.5) * cells / pixels).astype(np.int64) for pixels, cells in zip(size, grid, strict=True)
    )
    return groups_P.reshape(grid)[rows[:, None], columns[None, :]]
