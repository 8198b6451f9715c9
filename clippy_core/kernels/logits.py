"""The small arrays before upsampling: patch x label logits, and their average over sliding windows.

P patch, D embedding, K label or prompt, h/w patch grid.
"""

import sys
from collections.abc import Sequence

import numpy as np

from clippy_core.errors import DataError
from clippy_core.kernels.result import Array


def is_torch(array: Array) -> bool:
    """Whether ``array`` is a torch tensor; never imports torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(array, torch.Tensor)


def patch_logits(features_PD: Array, labels_KD: Array, grid: tuple[int, int]) -> Array:
    """Multiply patch features with label embeddings: the cosines, if both are L2-normalised.

    The product is float32 whatever comes in, also under autocast: half-precision logits move label borders.

    Args:
        features_PD: patch features in row-major order of the grid, numpy array or torch tensor.
        labels_KD: label embeddings, of the same library (and device).
        grid: patch rows and columns.

    Returns:
        float32 (h, w, K), contiguous, of the same library and device as the features.

    Raises:
        DataError: the shapes do not fit each other.
    """
    h, w = grid
    if features_PD.ndim != 2 or labels_KD.ndim != 2 or features_PD.shape[1] != labels_KD.shape[1]:
        arrived = f"{tuple(features_PD.shape)} and {tuple(labels_KD.shape)}"
        raise DataError(f"patch features and label embeddings must be P x D and K x D with one D, not {arrived}")
    if len(features_PD) != h * w:
        raise DataError(f"a grid of {h} x {w} patches needs {h * w} feature rows, not {len(features_PD)}")
    if not is_torch(features_PD):
        features = np.asarray(features_PD, np.float32)
        return (features @ np.asarray(labels_KD, np.float32).T).reshape(h, w, -1)
    import torch

    with torch.autocast(features_PD.device.type, enabled=False):
        return (features_PD.float() @ labels_KD.float().T).reshape(h, w, -1)


def average_windows(windows_hwK: Sequence[Array], corners: Sequence[tuple[int, int]], grid: tuple[int, int]) -> Array:
    """Average the logit grids of overlapping windows on one common patch grid, to be upsampled once.

    Averaging is linear and so is upsampling: this gives the labels that averaging upsampled windows would give where
    windows agree on patch positions, at the cost of one upsampling.

    Args:
        windows_hwK: float32 logits of each window.
        corners: patch row and column of each window's upper left corner on the common grid.
        grid: patch rows and columns of the common grid.

    Returns:
        float32 (h, w, K) of the same library and device as the windows.

    Raises:
        DataError: no window, a window that reaches over the grid, or patches that no window covers.
    """
    if not len(windows_hwK) or len(windows_hwK) != len(corners):
        raise DataError(f"averaging needs windows and a corner for each: {len(windows_hwK)} and {len(corners)} arrived")
    h, w = grid
    K = windows_hwK[0].shape[2]
    count_hw1 = np.zeros((h, w, 1), np.float32)
    if is_torch(windows_hwK[0]):
        total_hwK = windows_hwK[0].new_zeros((h, w, K), dtype=sys.modules["torch"].float32)
    else:
        total_hwK = np.zeros((h, w, K), np.float32)
    for window_hwK, (row, column) in zip(windows_hwK, corners, strict=True):
        rows, columns, prompts = window_hwK.shape
        inside = row >= 0 and column >= 0 and row + rows <= h and column + columns <= w
        if not inside or prompts != K:
            arrived = f"{rows} x {columns} x {prompts} at row {row}, column {column}"
            raise DataError(f"a window of {arrived} does not fit a grid of {h} x {w} patches and {K} labels")
        area = np.s_[row : row + rows, column : column + columns]
        total_hwK[area] += window_hwK
        count_hw1[area] += 1
    missing = int((count_hw1 == 0).sum())
    if missing:
        raise DataError(f"{missing} of {h * w} patches are covered by no window")
    if is_torch(total_hwK):
        return total_hwK / sys.modules["torch"].from_numpy(count_hw1).to(total_hwK.device)
    return total_hwK / count_hw1
