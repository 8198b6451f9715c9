"""How well groups of locations are set apart, and how many groups set a picture apart best.

Shapes: P location, D embedding, G group.
Source: Rousseeuw, *Silhouettes: a graphical aid to the interpretation and validation of cluster analysis*, 1987.
"""

from collections.abc import Callable, Sequence

import numpy as np

COUNTS = range(2, 13)
"""Numbers of groups that are tried."""


def silhouette(unit_PD: np.ndarray, groups_P: np.ndarray) -> float:
    """The mean silhouette of all locations by cosine distance, −1…1; higher is better, NaN for a single group.

    A cosine distance is linear in a unit vector, so its mean over a group is that to the group's mean: nothing of
    locations × locations is built.

    Args:
        unit_PD: Unit features.
        groups_P: Number of the group of each location.
    """
    numbers_G, groups_P = np.unique(groups_P, return_inverse=True)
    if not 2 <= len(numbers_G) < len(groups_P):
        return float("nan")
    unit_PD = unit_PD.astype(np.float64)
    count_G = np.bincount(groups_P)
    sums_GD = np.zeros((len(numbers_G), unit_PD.shape[1]))
    np.add.at(sums_GD, groups_P, unit_PD)
    total_PG = count_G - unit_PD @ sums_GD.T
    row_P = np.arange(len(groups_P))
    # A location is at no distance from itself, and is not counted among the others of its group.
    inside_P = total_PG[row_P, groups_P] / np.maximum(count_G[groups_P] - 1, 1)
    mean_PG = total_PG / count_G
    mean_PG[row_P, groups_P] = np.inf
    outside_P = mean_PG.min(1)
    value_P = (outside_P - inside_P) / np.maximum(np.maximum(inside_P, outside_P), 1e-12)
    value_P[count_G[groups_P] == 1] = 0
    return float(value_P.mean())


def choose_count(
    unit_PD: np.ndarray, group: Callable[[int], np.ndarray], counts: Sequence[int] = COUNTS
) -> tuple[np.ndarray, dict[int, float]]:
    """Groups in the number that has the highest silhouette; of equal ones the smallest.

    Args:
        unit_PD: Unit features.
        group: Gives the group of every location for a number of groups.
        counts: The numbers to try.

    Returns:
        The group of every location, and the silhouette of each number that was tried and gave at least two groups. With
        none of those, the groups of the smallest number.
    """
    found, values = {}, {}
    for count in counts:
        if count >= len(unit_PD) and found:
            break
        found[count] = group(count)
        value = silhouette(unit_PD, found[count])
        if not np.isnan(value):
            values[count] = value
    best = max(values, key=lambda count: values[count]) if values else min(found)
    return found[best], values
