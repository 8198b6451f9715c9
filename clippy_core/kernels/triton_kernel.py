"""Label maps on a GPU: one Triton kernel, forward only.

K prompt, H/W output pixel, h/w patch grid, P pixels of one program, k block of prompts.

One program works on up to ``PIXELS`` pixels of one cell (the rectangle between four neighbouring patch centres), so the
four corner logits of a prompt are shared by all its pixels. Prompts stream through in blocks with a running maximum and
index. A first pass over the corners finds the largest of all prompts' smallest corners; blocks in which no prompt
reaches it are skipped, which is exact (see ``cpu_numpy``).

Bytes moved at 1024 x 1024 pixels, 28 x 28 patches, 847 labels. Unfused: 3.4 GB written, 3.4 GB read, 4 MB written.
Here: the 2.7 MB of logits, read about 2 x 4 x (programs per cell) times from the L2 cache where they stay, and 4 MB
written; the floor is the time of that write.
"""

from functools import lru_cache
from typing import Any

import numpy as np
import torch
import triton
import triton.language as tl

from clippy_core.kernels.geometry import axis
from clippy_core.kernels.pruning import SLACK
from clippy_core.kernels.result import LabelMap

PIXELS = 256
PROMPTS = 16
OPTIONS: dict[str, Any] = {"enable_fp_fusion": True}
"""Launch options; fused multiply-add is Triton's old default, and newer versions want it said."""


@triton.jit
def _corner(logits, k, inside, down, right):
    """Logits of a block of prompts at the four corners; prompts beyond the last can never win."""
    upper_left = tl.load(logits + k, mask=inside, other=-3e38)
    upper_right = tl.load(logits + right + k, mask=inside, other=-3e38)
    lower_left = tl.load(logits + down + k, mask=inside, other=-3e38)
    lower_right = tl.load(logits + down + right + k, mask=inside, other=-3e38)
    return upper_left, upper_right, lower_left, lower_right


@triton.jit
def _interpolate(a, b, c, d, ty, tx):
    """(P, k) logits from four corners (k,) and positions (P,)."""
    left = a[None, :] + ty[:, None] * (c - a)[None, :]
    right = b[None, :] + ty[:, None] * (d - b)[None, :]
    return left + tx[:, None] * (right - left)


@triton.jit
def _sure(corner, K, down, right, BLOCK: tl.constexpr):
    """The largest of all prompts' smallest corners, which the winner of any pixel reaches."""
    bound = tl.full((BLOCK,), -3e38, tl.float32)
    for start in range(0, K, BLOCK):
        k = start + tl.arange(0, BLOCK)
        a, b, c, d = _corner(corner, k, k < K, down, right)
        bound = tl.maximum(bound, tl.minimum(tl.minimum(a, b), tl.minimum(c, d)))
    return tl.max(bound, axis=0)


@triton.jit
def _winner(corner, ty, tx, sure, K, down, right, P: tl.constexpr, BLOCK: tl.constexpr):
    """The highest logit of each pixel (P,) and its prompt; blocks that cannot reach ``sure`` are left out."""
    best = tl.full((P,), -3.4e38, tl.float32)
    winner = tl.zeros((P,), tl.int32)
    for start in range(0, K, BLOCK):
        k = start + tl.arange(0, BLOCK)
        a, b, c, d = _corner(corner, k, k < K, down, right)
        largest = tl.maximum(tl.maximum(a, b), tl.maximum(c, d))
        if tl.max(largest, axis=0) >= sure:
            value, at = tl.max(_interpolate(a, b, c, d, ty, tx), axis=1, return_indices=True)
            better = value > best
            best = tl.where(better, value, best)
            winner = tl.where(better, start + at, winner)
    return best, winner


@triton.jit
def _runner_up(
    corner, ty, tx, label, groups, slack, K, down, right, GROUPS: tl.constexpr, P: tl.constexpr, BLOCK: tl.constexpr
):
    """The highest logit of each pixel (P,) among prompts of labels other than ``label``."""
    second = tl.full((P,), -3.4e38, tl.float32)
    for start in range(0, K, BLOCK):
        k = start + tl.arange(0, BLOCK)
        a, b, c, d = _corner(corner, k, k < K, down, right)
        largest = tl.maximum(tl.maximum(a, b), tl.maximum(c, d))
        if tl.max(largest, axis=0) >= tl.min(second, axis=0) - slack:
            if GROUPS:
                label_k = tl.load(groups + k, mask=k < K, other=-1)
            else:
                label_k = k
            value = _interpolate(a, b, c, d, ty, tx)
            value = tl.where(label_k[None, :] == label[:, None], -3e38, value)
            second = tl.maximum(second, tl.max(value, axis=1))
    return second


@triton.jit
def _label_cell(
    logits,
    groups,
    row_start,
    column_start,
    ty_H,
    tx_W,
    labels,
    scores,
    margins,
    slack,
    K,
    W,
    columns,
    patch_row,
    down,
    right,
    GROUPS: tl.constexpr,
    SCORES: tl.constexpr,
    MARGINS: tl.constexpr,
    P: tl.constexpr,
    BLOCK: tl.constexpr,
):
    cell = tl.program_id(0)
    row = cell // columns
    column = cell % columns
    top = tl.load(row_start + row)
    left = tl.load(column_start + column)
    width = tl.load(column_start + column + 1) - left
    area = (tl.load(row_start + row + 1) - top) * width
    first = tl.program_id(1) * P
    if first < area:
        p = first + tl.arange(0, P)
        inside = p < area
        y = top + p // width
        x = left + p % width
        ty = tl.load(ty_H + y, mask=inside, other=0.0)
        tx = tl.load(tx_W + x, mask=inside, other=0.0)
        corner = logits + row * patch_row + column * K

        sure = _sure(corner, K, down, right, BLOCK) - slack
        best, label = _winner(corner, ty, tx, sure, K, down, right, P, BLOCK)
        if GROUPS:
            label = tl.load(groups + label)
        out = y * W + x
        tl.store(labels + out, label, mask=inside)
        if SCORES:
            tl.store(scores + out, best, mask=inside)
        if MARGINS:
            second = _runner_up(corner, ty, tx, label, groups, slack, K, down, right, GROUPS, P, BLOCK)
            tl.store(margins + out, best - second, mask=inside)


@lru_cache(maxsize=32)
def _tables(h: int, w: int, size: tuple[int, int], device: torch.device) -> tuple[torch.Tensor, ...]:
    """Cell starts and pixel positions on the device; a folder run repeats few sizes."""
    ys, xs = axis(h, size[0]), axis(w, size[1])
    starts = [torch.as_tensor(pixels.start.astype(np.int32), device=device) for pixels in (ys, xs)]
    return (*starts, *(torch.as_tensor(pixels.t.astype(np.float32), device=device) for pixels in (ys, xs)))


def missing(device_type: str) -> str | None:
    """Why this kernel cannot run on tensors of a device type, or None."""
    interpreted = not isinstance(_label_cell, triton.JITFunction)
    if device_type == "cuda" or interpreted:
        return None
    return f"it needs a CUDA tensor, not one on {device_type}"


def label_map(
    logits_hwK: torch.Tensor,
    size: tuple[int, int],
    *,
    largest: float,
    groups: np.ndarray | None = None,
    scores: bool = False,
    margins: bool = False,
) -> LabelMap:
    """Label every pixel of ``size``; see ``clippy_core.kernels.label_map`` for the meaning of the arguments.

    Args:
        logits_hwK: float32, contiguous, finite, on the GPU (or anywhere under Triton's interpreter).
        largest: largest absolute logit.
        groups: int64 (K,), non-decreasing, or None.
    """
    h, w, K = logits_hwK.shape
    ys, xs = axis(h, size[0]), axis(w, size[1])
    row_start, column_start, ty_H, tx_W = _tables(h, w, size, logits_hwK.device)
    group_K = row_start if groups is None else torch.as_tensor(groups.astype(np.int32), device=logits_hwK.device)
    lone = margins and (K == 1 if groups is None else groups[0] == groups[-1])
    labels_HW = logits_hwK.new_empty(size, dtype=torch.int32)
    scores_HW = logits_hwK.new_empty(size) if scores else None
    margins_HW = logits_hwK.new_full(size, torch.inf) if margins else None
    constants: dict[str, Any] = {
        "GROUPS": groups is not None,
        "SCORES": scores,
        "MARGINS": margins and not lone,
        "P": PIXELS,
        "BLOCK": PROMPTS,
    }
    area = int(np.diff(ys.start).max()) * int(np.diff(xs.start).max())
    with torch.cuda.device_of(logits_hwK):
        _label_cell[(ys.cells * xs.cells, triton.cdiv(area, PIXELS))](
            logits_hwK,
            group_K,
            row_start,
            column_start,
            ty_H,
            tx_W,
            labels_HW,
            labels_HW if scores_HW is None else scores_HW,
            labels_HW if margins_HW is None else margins_HW,
            SLACK * largest,
            K,
            size[1],
            xs.cells,
            w * K,
            w * K if h > 1 else 0,
            K if w > 1 else 0,
            **constants,
            **OPTIONS,
        )
    return LabelMap(labels_HW, scores_HW, margins_HW)
