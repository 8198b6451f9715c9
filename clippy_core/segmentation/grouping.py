"""Segments without any label: which locations of a picture belong together, by their features alone.

Three ways: principal components as the paper has it, k-means, and spectral clustering.

Shapes: B picture, P = h·w location, D embedding, G centre, H/W pixel.
Source: *Perceptual Grouping in Contrastive Vision-Language Models* (arXiv 2210.09996), section 4: the first principal
components of a picture's own patch tokens are cluster centres, and each patch goes to the centre of highest cosine.
"""

import numpy as np
import torch
from torch import Tensor

from clippy_core.errors import DataError, UsageError

ROUNDS = 100
"""k-means ends when nothing changes, or after so many rounds."""


def group(features_PD: Tensor, method: str = "pca", k: int = 8, seed: int = 0) -> Tensor:
    """Number of the group of every location of one picture by ``pca``, ``kmeans`` or ``spectral``.

    Args:
        features_PD: Features of the locations.
        method: :func:`group_patches`, :func:`kmeans` or :func:`spectral`.
        k: How many groups at most.
        seed: Where k-means starts from, also the one at the end of ``spectral``.

    Returns:
        ``int64`` of shape (P,), 0…k − 1, on the features' device.

    Raises:
        DataError: Features that are not P×D.
        UsageError: An unknown method.
    """
    if method == "pca":
        return group_patches(features_PD, k)
    if method not in ("kmeans", "spectral"):
        raise UsageError(f"grouping {method!r} is unknown; accepted: pca, kmeans, spectral")
    if features_PD.ndim != 2 or 0 in features_PD.shape:
        raise DataError(f"features must be locations × channels, not {tuple(features_PD.shape)}")
    return (kmeans if method == "kmeans" else spectral)(features_PD, k, seed)


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


def kmeans(features_PD: Tensor, k: int = 8, seed: int = 0) -> Tensor:
    """Groups by k-means on unit features, ``int64`` (P,); started with k-means++ from ``seed``.

    A centre that loses all its locations stays where it is. Fewer than ``k`` different features give fewer groups.

    Source: Arthur and Vassilvitskii, *k-means++: the advantages of careful seeding*, 2007.
    """
    features_PD = torch.nn.functional.normalize(features_PD.detach().double(), dim=-1)
    centres_GD = _starting_centres(features_PD, k, seed)
    groups_P = torch.cdist(features_PD, centres_GD).argmin(-1)
    for _ in range(ROUNDS):
        members_PG = torch.nn.functional.one_hot(groups_P, len(centres_GD)).double()
        count_G1 = members_PG.sum(0)[:, None]
        centres_GD = torch.where(count_G1 > 0, members_PG.mT @ features_PD / count_G1.clamp(min=1), centres_GD)
        before_P, groups_P = groups_P, torch.cdist(features_PD, centres_GD).argmin(-1)
        if torch.equal(groups_P, before_P):
            break
    return groups_P


def _starting_centres(features_PD: Tensor, k: int, seed: int) -> Tensor:
    """The first at random, every further one with a chance proportional to its squared distance from the nearest."""
    rng = np.random.default_rng(seed)
    chosen = [int(rng.integers(len(features_PD)))]
    distance_P = torch.cdist(features_PD, features_PD[chosen])[:, 0] ** 2
    while len(chosen) < k and float(distance_P.max()) > 1e-12:
        share_P = (distance_P / distance_P.sum()).cumsum(0).cpu().numpy()
        chosen.append(min(int(np.searchsorted(share_P, rng.random(), side="right")), len(share_P) - 1))
        distance_P = torch.minimum(distance_P, torch.cdist(features_PD, features_PD[chosen[-1:]])[:, 0] ** 2)
    return features_PD[chosen]


def spectral(features_PD: Tensor, k: int = 8, seed: int = 0) -> Tensor:
    """Groups by normalised cuts, ``int64`` (P,): k-means on the leading eigenvectors of the graph of cosines.

    Two locations are joined as strongly as their cosine is positive. The cost grows with the cube of the locations.

    Source: Ng, Jordan and Weiss, *On spectral clustering: analysis and an algorithm*, 2001.
    """
    unit_PD = torch.nn.functional.normalize(features_PD.detach().double(), dim=-1)
    joined_PP = (unit_PD @ unit_PD.mT).clamp(min=0).fill_diagonal_(0)
    degree_P = joined_PP.sum(-1).clamp(min=1e-12).rsqrt()
    _, vectors_PP = torch.linalg.eigh(degree_P[:, None] * joined_PP * degree_P)
    # Eigenvalues come in ascending order. k-means brings the rows to unit length, as the algorithm asks.
    return kmeans(vectors_PP[:, -k:], k, seed)


def upsample_groups(groups_P: np.ndarray, grid: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """Group of every pixel, shape (H, W): that of the location whose cell the pixel's centre lies in."""
    rows, columns = (
        ((np.arange(pixels) + 0.5) * cells / pixels).astype(np.int64) for pixels, cells in zip(size, grid, strict=True)
    )
    return groups_P.reshape(grid)[rows[:, None], columns[None, :]]
