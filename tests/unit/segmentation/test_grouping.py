"""Grouping against scikit-learn's principal components, and on features whose groups are known."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from sklearn.metrics.pairwise import cosine_similarity

from clippy_core.errors import DataError
from clippy_core.segmentation.grouping import group_patches, upsample_groups


def by_scikit_learn(features, k):
    pca = PCA(k, svd_solver="full").fit(features)
    largest = np.take_along_axis(pca.components_, np.abs(pca.components_).argmax(1)[:, None], 1)
    return cosine_similarity(features - pca.mean_, pca.components_ * np.sign(largest)).argmax(1)


@given(st.integers(0, 2**32 - 1), st.sampled_from([(64, 16), (20, 40), (49, 49)]), st.integers(1, 8))
def test_groups_are_scikit_learn_s(seed, shape, k):
    features = np.random.default_rng(seed).normal(size=shape)
    assert group_patches(torch.from_numpy(features), k).tolist() == by_scikit_learn(features, k).tolist()


def test_a_batch_is_its_pictures():
    features_BPD = torch.randn(5, 30, 12, generator=torch.Generator().manual_seed(0))
    together = group_patches(features_BPD, 4)
    assert together.dtype == torch.int64
    assert torch.equal(together, torch.stack([group_patches(features_PD, 4) for features_PD in features_BPD]))


def test_locations_with_the_same_features_are_together():
    centres = np.random.default_rng(1).normal(size=(4, 32))
    groups = np.random.default_rng(2).integers(0, 4, 100)
    found = group_patches(torch.from_numpy(centres[groups]), 8).numpy()
    assert all(len(set(found[groups == group])) == 1 for group in range(4))
    assert len(set(found)) > 1


@pytest.mark.parametrize("shape", [(1, 8), (3, 8), (8, 3), (1, 1), (2, 3, 4)])
def test_fewer_locations_or_channels_than_groups(shape):
    found = group_patches(torch.randn(shape, generator=torch.Generator().manual_seed(0)))
    assert found.shape == shape[:-1]
    assert 0 <= found.min() <= found.max() < 8


def test_equal_features_are_one_group():
    assert set(group_patches(torch.ones(9, 5)).tolist()) == {0}


@pytest.mark.parametrize("shape", [(3,), (0, 4), (2, 2, 2, 2)])
def test_what_is_no_grid_of_features_is_an_error(shape):
    with pytest.raises(DataError, match="locations × channels"):
        group_patches(torch.zeros(shape))


def test_groups_of_pixels_are_those_of_their_cells():
    groups = np.arange(6)
    assert upsample_groups(groups, (2, 3), (4, 6)).tolist() == [
        *[[0, 0, 1, 1, 2, 2]] * 2,
        *[[3, 3, 4, 4, 5, 5]] * 2,
    ]


@pytest.mark.parametrize(("grid", "size"), [((3, 4), (10, 7)), ((5, 5), (64, 48)), ((4, 4), (2, 3)), ((8, 8), (8, 8))])
def test_upsampling_is_torch_s_exact_nearest(grid, size):
    groups = np.random.default_rng(0).integers(0, 8, grid[0] * grid[1])
    want = torch.nn.functional.interpolate(
        torch.from_numpy(groups).view(1, 1, *grid).double(), size=size, mode="nearest-exact"
    )
    assert np.array_equal(upsample_groups(groups, grid, size), want[0, 0].numpy())
