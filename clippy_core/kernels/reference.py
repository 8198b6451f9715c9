"""The definition of correct: multiply, interpolate every label to every pixel, take the arg-max. Plain PyTorch.

K prompt, G label (group of prompts), H/W output pixels, h/w patch grid.

Every other implementation is tested against this file. It holds K x H x W values, which is why it is only a
reference: at 1024 x 1024 pixels and 847 labels that is 3.4 GB written and read back, in order to keep 4 MB.
"""

import itertools

import numpy as np
import torch

from clippy_core.kernels.result import LabelMap


def label_map(
    logits_hwK: torch.Tensor,
    size: tuple[int, int],
    *,
    groups: np.ndarray | None = None,
    scores: bool = False,
    margins: bool = False,
    dtype: torch.dtype = torch.float32,
) -> LabelMap:
    """Interpolate all logits bilinearly and take the best label of each pixel; ties go to the lowest index.

    Args:
        logits_hwK: similarity of each patch with each prompt, any floating dtype, finite.
        size: output height and width in pixels.
        groups: (K,) non-decreasing label index of each prompt; a label's logit is the largest of its prompts'.
        scores: also return the winner's logit.
        margins: also return the winner's logit minus the best other label's.
        dtype: precision of the interpolation; tests use float64.
    """
    if groups is not None:
        return _grouped(logits_hwK, size, groups, scores, margins, dtype)
    logits_HWK = _interpolate(logits_hwK.to(dtype), size).movedim(1, -1)[0]
    return _decide(logits_HWK, scores, margins)


def _interpolate(logits_hwK: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    logits_1Khw = logits_hwK.permute(2, 0, 1)[None]
    return torch.nn.functional.interpolate(logits_1Khw, size=size, mode="bilinear", align_corners=False)


def _grouped(
    logits_hwK: torch.Tensor,
    size: tuple[int, int],
    groups: np.ndarray,
    scores: bool,
    margins: bool,
    dtype: torch.dtype,
) -> LabelMap:
    logits_HWK = _interpolate(logits_hwK.to(dtype), size).movedim(1, -1)[0]
    labels, first_K = np.unique(np.asarray(groups), return_index=True)
    bounds = [*first_K.tolist(), len(groups)]
    parts = [logits_HWK[..., a:b].amax(-1) for a, b in itertools.pairwise(bounds)]
    result = _decide(torch.stack(parts, -1), scores, margins)
    label_of_G = torch.as_tensor(labels, dtype=torch.int32, device=logits_hwK.device)
    return LabelMap(label_of_G[result.labels_HW.long()], result.scores_HW, result.margins_HW)


def _decide(logits_HWG: torch.Tensor, scores: bool, margins: bool) -> LabelMap:
    best_HW, labels_HW = logits_HWG.max(-1)  # torch promises the first of equal maxima
    margins_HW = None
    if margins and logits_HWG.shape[-1] > 1:
        best_HW2 = logits_HWG.topk(2, dim=-1).values
        margins_HW = (best_HW2[..., 0] - best_HW2[..., 1]).float()
    elif margins:
        margins_HW = torch.full_like(best_HW, float("inf"), dtype=torch.float32)
    return LabelMap(labels_HW.to(torch.int32), best_HW.float() if scores else None, margins_HW)
