"""The small arrays before upsampling: patch x label logits, and their average over sliding windows.

P patch, D embedding, K label or prompt, h/w patch grid.
"""

import sys

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
