"""Label maps in plain torch with bounded memory, for devices without Triton and for single images on a GPU.

K prompt, G label, H/W output pixel, h/w patch grid, R rows of a block.

Bytes moved at 1024 x 1024 pixels and 150 labels: 0.6 GB written and read three times, a block of rows at a time. Slower
than the fused kernel, but there is nothing to compile, which a single image would wait for.
"""

from collections.abc import Iterator

import numpy as np
import torch

from clippy_core.kernels.geometry import axis
from clippy_core.kernels.result import LabelMap

BLOCK = {"cpu": 1 << 18, "cuda": 1 << 26}
"""Logits held at once: 1 MB of float32 on a CPU, 256 MB on a GPU."""


def dense_blocks(logits_hwK: torch.Tensor, size: tuple[int, int]) -> Iterator[tuple[slice, torch.Tensor]]:
    """Interpolate every prompt to every pixel, some rows at a time: row slice, float32 (R, W, K)."""
    h, w, K = logits_hwK.shape
    device = logits_hwK.device
    ys, xs = axis(h, size[0]), axis(w, size[1])
    upper, lower, left, right = (
        torch.as_tensor(i.copy(), device=device) for i in (ys.cell, ys.upper, xs.cell, xs.upper)
    )
    ty_H11, tx_W1 = (torch.as_tensor(pixels.t.astype(np.float32), device=device)[:, None] for pixels in (ys, xs))
    ty_H11 = ty_H11[..., None]
    rows = max(1, BLOCK.get(device.type, BLOCK["cuda"]) // (size[1] * K))
    for y in range(0, size[0], rows):
        at = slice(y, min(y + rows, size[0]))
        line_RwK = logits_hwK[upper[at]] * (1 - ty_H11[at]) + logits_hwK[lower[at]] * ty_H11[at]
        yield at, line_RwK[:, left] * (1 - tx_W1) + line_RwK[:, right] * tx_W1


def label_map(
    logits_hwK: torch.Tensor,
    size: tuple[int, int],
    *,
    groups: np.ndarray | None = None,
    scores: bool = False,
    margins: bool = False,
) -> LabelMap:
    """Label every pixel of ``size``; see ``clippy_core.kernels.label_map`` for the meaning of the arguments."""
    new = logits_hwK.new_empty
    labels_HW = new(size, dtype=torch.int32)
    scores_HW = new(size) if scores else None
    margins_HW = new(size) if margins else None
    label_K = torch.arange(logits_hwK.shape[2]) if groups is None else torch.from_numpy(groups)
    label_K = label_K.to(logits_hwK.device)
    for at, block_RWK in dense_blocks(logits_hwK, size):
        best, winner = block_RWK.max(-1)
        label = label_K[winner]
        labels_HW[at] = label.to(torch.int32)
        if scores_HW is not None:
            scores_HW[at] = best
        if margins_HW is not None:
            others = block_RWK.masked_fill_(label_K == label[..., None], -torch.inf)
            margins_HW[at] = best - others.amax(-1)
    return LabelMap(labels_HW, scores_HW, margins_HW)


def softmax_label_map(
    logits_hwK: torch.Tensor, size: tuple[int, int], scale: float, groups: np.ndarray | None
) -> LabelMap:
    """Label every pixel, with the winner's softmax probability over all labels as its score."""
    labels_HW = logits_hwK.new_empty(size, dtype=torch.int32)
    scores_HW = logits_hwK.new_empty(size)
    names, index = np.unique(np.arange(logits_hwK.shape[2]) if groups is None else groups, return_inverse=True)
    label_G, index_K = (torch.as_tensor(a, device=logits_hwK.device) for a in (names, index))
    for at, block in dense_blocks(logits_hwK, size):
        if groups is not None:
            nothing = block.new_full((*block.shape[:2], len(names)), -torch.inf)
            block = nothing.scatter_reduce(2, index_K.expand_as(block), block, "amax")
        best, winner = block.max(-1)
        labels_HW[at] = label_G[winner].to(torch.int32)
        scores_HW[at] = 1 / ((block - best[..., None]) * scale).exp().sum(-1)
    return LabelMap(labels_HW, scores_HW)
