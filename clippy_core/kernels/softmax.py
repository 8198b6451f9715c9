"""Label maps with softmax probabilities. This is the one path that needs every label at every pixel.

K prompt, G label, H/W output pixel, h/w patch grid.

A softmax denominator sums over all labels, so nothing can be pruned and the cost grows with the number of labels.
Only memory stays bounded: pixels are worked off block by block. Where a rule on the winner's own cosine or on its
margin to the runner-up will do, ``label_map`` is many times faster.

Bytes moved: unfused 4 K H W written and read three times (logits, exponentials, sum). In blocks: the same traffic, but
inside the cache, and 8 H W written to memory.
"""

import sys
from dataclasses import replace

import numpy as np

from clippy_core.errors import ConfigError
from clippy_core.kernels.cpu_numpy import dense_blocks
from clippy_core.kernels.dispatch import as_groups, as_logits
from clippy_core.kernels.geometry import axis
from clippy_core.kernels.logits import is_torch
from clippy_core.kernels.result import Array, LabelMap


def softmax_label_map(
    logits_hwK: Array, size: tuple[int, int], *, scale: float, groups: Array | None = None
) -> LabelMap:
    """Label every pixel, with the winner's softmax probability over all labels as its score.

    Args:
        logits_hwK: float32 (h, w, K), numpy array or torch tensor.
        size: output height and width in pixels.
        scale: factor on the interpolated logits before the softmax (the model's logit scale).
        groups: (K,) non-decreasing label index of each prompt; a label's logit is the largest of its prompts'.

    Raises:
        DataError: logits that are not finite, or of a wrong shape.
        ConfigError: ``size``, ``scale`` or ``groups`` out of range.
    """
    if not np.isfinite(scale) or scale <= 0:
        raise ConfigError(f"scale must be a positive number, not {scale}")
    logits, _ = as_logits(logits_hwK, size)
    groups_K = as_groups(groups, logits.shape[2])
    reason = "a softmax needs every label at every pixel"
    if is_torch(logits):
        from clippy_core.kernels import torch_dense

        result = torch_dense.softmax_label_map(logits, size, scale, groups_K)
        return replace(result, implementation="torch", reason=reason)
    ys, xs = axis(logits.shape[0], size[0]), axis(logits.shape[1], size[1])
    first_G = None if groups_K is None else np.flatnonzero(np.diff(groups_K, prepend=groups_K[0] - 1))
    labels_HW, scores_HW = np.empty(size, np.int32), np.empty(size, np.float32)
    for at_y, at_x, block in dense_blocks(logits, ys, xs):
        if first_G is not None:
            block = np.maximum.reduceat(block, first_G, axis=-1)
        winner = block.argmax(-1)
        block -= np.take_along_axis(block, winner[..., None], -1)
        block *= scale
        np.exp(block, out=block)
        labels_HW[at_y, at_x] = winner if groups_K is None else groups_K[first_G][winner]
        scores_HW[at_y, at_x] = 1 / block.sum(-1)
    if is_torch(logits_hwK):
        from_numpy = sys.modules["torch"].from_numpy
        return LabelMap(from_numpy(labels_HW), from_numpy(scores_HW), None, "numpy", reason)
    return LabelMap(labels_HW, scores_HW, None, "numpy", reason)
