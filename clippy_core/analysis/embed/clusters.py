"""Clusters of pictures, and what to call them.

Shapes: N picture, K label, D embedding.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

MOST_CLUSTERS = 12
SAMPLE = 2000
"""Pictures that the number of clusters is chosen by."""
LEAST_TO_CLUSTER = 4
STARTS: Any = 4
"""So often k-means begins anew; scikit-learn's annotation has only its word for the default."""


def cluster(vectors_ND: np.ndarray, wanted: int | None) -> tuple[np.ndarray, float]:
    """Clusters by k-means on what sets pictures apart from their mean, numbered by size, and their silhouette.

    Without ``wanted``, their number is the one of 2…12 with the highest mean silhouette. Fewer than four pictures, or
    copies of a single one, are one cluster.
    """
    from sklearn.cluster import KMeans
    from sklearn.metrics import silhouette_score

    different = len(np.unique(vectors_ND.round(5), axis=0))
    centred_ND = centre(vectors_ND)
    if wanted == 1 or different < 2 or (wanted is None and different < LEAST_TO_CLUSTER):
        return np.zeros(len(vectors_ND), int), float("nan")
    highest = min(MOST_CLUSTERS, different - 1)
    numbers = range(2, highest + 1) if wanted is None else [min(wanted, different)]
    best_N, best = np.zeros(len(vectors_ND), int), -np.inf
    for number in numbers:
        cluster_N = KMeans(number, n_init=STARTS, random_state=0).fit_predict(centred_ND)
        sample = np.unique(np.linspace(0, len(vectors_ND) - 1, SAMPLE).round().astype(int))
        seen = len(np.unique(cluster_N[sample]))
        # The silhouette is not defined for a single cluster, nor where each has one member.
        score = float(silhouette_score(centred_ND[sample], cluster_N[sample])) if 1 < seen < len(sample) else -1.0
        if score > best:
            best_N, best = cluster_N, score
    order = np.argsort(-np.bincount(best_N), kind="stable")
    return np.argsort(order, kind="stable")[best_N], best


def call_clusters(cosine_NK: np.ndarray, cluster_N: np.ndarray, names: Sequence[str]) -> tuple[str, ...]:
    """For each cluster the label whose mean cosine there is highest above its mean over all pictures."""
    mean_K = cosine_NK.mean(0)
    called = []
    for number in range(int(cluster_N.max()) + 1):
        above_K = cosine_NK[cluster_N == number].mean(0) - mean_K
        # A single cluster is everything, and nothing is above the mean.
        called.append(names[int(above_K.argmax() if cluster_N.max() else mean_K.argmax())])
    return tuple(called)


def centre(vectors_ND: np.ndarray) -> np.ndarray:
    """Vectors less their mean, at unit length; what is the mean itself, as a single one is, becomes 0."""
    centred_ND = vectors_ND - vectors_ND.mean(0)
    return centred_ND / np.maximum(np.linalg.norm(centred_ND, axis=1, keepdims=True), 1e-6)
