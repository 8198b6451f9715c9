"""k-means and spectral clustering against scikit-learn, and on groups that are known."""

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans, SpectralClustering
from sklearn.metrics import adjusted_rand_score

from clippy_core.errors import DataError, UsageError
from clippy_core.segmentation.grouping import group, group_patches, kmeans, spectral

METHODS = ("pca", "kmeans", "spectral")


def blobs(seed, *, groups=5, each=30, channels=24, spread=0.15):
    """Unit directions around ``groups`` that are far from each other, mixed."""
    rng = np.random.default_rng(seed)
    centres = np.linalg.qr(rng.normal(size=(channels, channels)))[0][:groups]
    truth = rng.permutation(np.repeat(np.arange(groups), each))
    noise = rng.normal(0, spread / np.sqrt(channels), (len(truth), channels))
    return torch.from_numpy(centres[truth] + noise), truth


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("method", ["kmeans", "spectral"])
def test_groups_that_are_known_are_found(method, seed):
    features_PD, truth = blobs(seed)
    assert adjusted_rand_score(truth, group(features_PD, method, 5, seed=0).numpy()) == 1


@pytest.mark.parametrize("seed", range(6))
def test_kmeans_ends_where_scikit_learn_stays(seed):
    """From our centres scikit-learn's Lloyd moves nothing, and our sum of squares is near its best of many starts."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(120, 6))
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    found = kmeans(torch.from_numpy(features), 7, seed).numpy()
    centres = np.stack([unit[found == number].mean(0) for number in range(7)])
    clusters: Any = KMeans  # Its signature lacks types, and what stands for them is wrong.
    theirs = clusters(7, init=centres, n_init=1).fit(unit)
    assert np.array_equal(theirs.labels_, found)
    best = clusters(7, n_init=20, random_state=0).fit(unit).inertia_
    assert theirs.inertia_ < 1.25 * best


@pytest.mark.parametrize("seed", range(3))
def test_spectral_is_scikit_learn_s_where_groups_are_clear(seed):
    features_PD, _ = blobs(seed, groups=4, spread=0.5)
    unit = torch.nn.functional.normalize(features_PD, dim=-1).numpy()
    joined = np.clip(unit @ unit.T, 0, None)
    np.fill_diagonal(joined, 0)
    theirs = SpectralClustering(4, affinity="precomputed", random_state=0).fit_predict(joined)
    assert adjusted_rand_score(theirs, spectral(features_PD, 4).numpy()) == 1


@pytest.mark.parametrize("method", METHODS)
def test_the_same_seed_gives_the_same_groups(method):
    features_PD = torch.randn(60, 10, generator=torch.Generator().manual_seed(3))
    found = group(features_PD, method, 6, seed=1)
    assert found.dtype == torch.int64
    assert found.shape == (60,)
    assert found.min() >= 0
    assert found.max() <= 5
    assert torch.equal(found, group(features_PD, method, 6, seed=1))
    if method == "pca":
        assert torch.equal(found, group_patches(features_PD, 6))
    else:
        assert any(not torch.equal(found, group(features_PD, method, 6, seed=seed)) for seed in range(2, 6))


@pytest.mark.parametrize("method", ["kmeans", "spectral"])
@pytest.mark.parametrize("locations", [1, 3])
def test_few_locations_and_equal_ones(method, locations):
    features_PD = torch.ones(locations, 4)
    assert len(set(group(features_PD, method, 8).tolist())) <= locations
    assert set(group(torch.zeros(5, 4), method, 3).tolist()) <= {0, 1, 2}
    assert set(kmeans(torch.ones(9, 4), 3).tolist()) == {0}


@pytest.mark.parametrize(
    ("features", "method", "error", "words"),
    [
        (torch.ones(4, 3), "mean", UsageError, "accepted: pca, kmeans, spectral"),
        (torch.ones(2, 4, 3), "kmeans", DataError, "locations × channels"),
        (torch.ones(0, 3), "spectral", DataError, "locations × channels"),
    ],
)
def test_what_is_not_accepted(features, method, error, words):
    with pytest.raises(error, match=words):
        group(features, method, 3)
