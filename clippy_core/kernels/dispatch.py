"""Chooses the implementation of a label map, says which and why, and never falls back in silence.

Logits on the CPU go to numpy: one implementation, nothing to load or compile. Logits on a GPU go to Triton, except for
one image of moderate size, which would wait longer for the compiler than for torch.
"""

import importlib.util
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from clippy_core.errors import ConfigError, DataError, DeviceError
from clippy_core.kernels.logits import is_torch
from clippy_core.kernels.result import Array, LabelMap

IMPLEMENTATIONS = ("auto", "reference", "numpy", "torch", "triton")

LARGEST = 1e18
"""Logits beyond this size could overflow when they are interpolated; cosines are at most 1."""

WORTH_COMPILING = 1 << 30
"""Logits per image (pixels x prompts) from which even one image goes to Triton: torch would move about 16 GB for it."""


def label_map(
    logits_hwK: Array,
    size: tuple[int, int],
    *,
    groups: Sequence[int] | Array | None = None,
    scores: bool = False,
    margins: bool = False,
    implementation: str = "auto",
    images_ahead: int = 1,
) -> LabelMap:
    """Interpolate patch logits bilinearly to ``size`` and return the best label of every pixel.

    Equal to ``F.interpolate(..., mode="bilinear", align_corners=False)`` followed by an arg-max, except that two labels
    closer than about 1e-6 of the largest logit may swap; equal logits go to the lowest label.

    Args:
        logits_hwK: (h, w, K) finite logits, labels last: what ``patch_logits`` returns. numpy array or torch tensor.
        size: output height and width in pixels, up or down.
        groups: (K,) non-decreasing label index of each prompt, for labels with synonyms; a label's logit is the largest
            of its prompts'. Without it every prompt is a label.
        scores: also return the winner's logit, for a background rule on the cosine.
        margins: also return the winner's logit minus the best other label's, for a background rule on the margin.
        implementation: ``auto``, or one of ``IMPLEMENTATIONS`` to force it.
        images_ahead: about how many images of this kind are to come; on a GPU it decides whether compiling pays.

    Returns:
        Arrays of the same library and device as the logits, and which implementation ran and why.

    Raises:
        DataError: logits that are not finite, or of a wrong shape or type.
        ConfigError: ``size``, ``groups`` or ``implementation`` out of range.
        DeviceError: a forced implementation cannot run here; the message says why.
    """
    if implementation not in IMPLEMENTATIONS:
        raise ConfigError(f"implementation must be one of {', '.join(IMPLEMENTATIONS)}, not {implementation!r}")
    logits, largest = as_logits(logits_hwK, size)
    size = (int(size[0]), int(size[1]))
    groups_K = as_groups(groups, logits.shape[2])
    name, reason = choose(logits, size, implementation, images_ahead)
    wanted = {"groups": groups_K, "scores": scores, "margins": margins}
    if name == "numpy":
        from clippy_core.kernels import cpu_numpy

        result = cpu_numpy.label_map(logits, size, largest=largest, **wanted)
        if is_torch(logits_hwK):
            result = _map_arrays(result, sys.modules["torch"].from_numpy)
        return replace(result, implementation=name, reason=reason)

    import torch

    tensor = logits if is_torch(logits) else torch.from_numpy(logits)
    if name == "reference":
        from clippy_core.kernels import reference

        result = reference.label_map(tensor, size, **wanted)
    elif name == "torch":
        from clippy_core.kernels import torch_dense

        result = torch_dense.label_map(tensor, size, **wanted)
    else:
        from clippy_core.kernels import triton_kernel

        result = triton_kernel.label_map(tensor, size, largest=largest, **wanted)
    if not is_torch(logits_hwK):
        result = _map_arrays(result, torch.Tensor.numpy)
    return replace(result, implementation=name, reason=reason)


def choose(logits_hwK: Array, size: tuple[int, int], implementation: str, images_ahead: int) -> tuple[str, str]:
    """Name of the implementation for checked logits, and one line that says why.

    Raises:
        DeviceError: a forced implementation cannot run here.
    """
    device = logits_hwK.device.type if is_torch(logits_hwK) else "cpu"
    if implementation != "auto":
        reason = _obstacle(implementation, device)
        if reason:
            raise DeviceError(f"the {implementation} label map cannot run: {reason}")
        return implementation, "asked for"
    if device == "cpu":
        return "numpy", "the logits are on the CPU"
    obstacle = _obstacle("triton", device)
    if obstacle:
        return "torch", f"Triton cannot run: {obstacle}"
    if images_ahead > 1:
        return "triton", f"the logits are on a GPU and {images_ahead} images are ahead"
    if size[0] * size[1] * logits_hwK.shape[2] >= WORTH_COMPILING:
        return "triton", "the logits are on a GPU and the image is large"
    return "torch", "the logits are on a GPU, but one image of this size is not worth compiling for"


def _obstacle(implementation: str, device: str) -> str | None:
    """Why an implementation cannot run on logits of a device, or None."""
    if implementation == "numpy" and device != "cpu":
        return f"the logits are on {device}; move them to the CPU first"
    if implementation != "numpy" and importlib.util.find_spec("torch") is None:
        return "torch is not installed"
    if implementation != "triton":
        return None
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed; it comes with torch's Linux builds for CUDA, or by `pip install triton`"
    from clippy_core.kernels import triton_kernel

    return triton_kernel.missing(device)


def _map_arrays(result: LabelMap, change: Callable[[Array], Array]) -> LabelMap:
    labels, scores, margins = (
        None if array is None else change(array) for array in (result.labels_HW, result.scores_HW, result.margins_HW)
    )
    return LabelMap(labels, scores, margins)


def as_logits(logits_hwK: Array, size: tuple[int, int]) -> tuple[Array, float]:
    """Check logits and size.

    Returns:
        float32 contiguous logits, a tensor if they are on a GPU and else a numpy array, and the largest absolute logit.
    """
    if len(size) != 2 or any(int(n) != n or n < 1 for n in size):
        raise ConfigError(f"size must be a positive height and width in pixels, not {tuple(size)}")
    if logits_hwK.ndim != 3 or 0 in logits_hwK.shape:
        raise DataError(f"logits must be rows x columns x labels, none of them 0, not {tuple(logits_hwK.shape)}")
    if is_torch(logits_hwK):
        torch = sys.modules["torch"]
        if not logits_hwK.is_floating_point():
            raise DataError(f"logits must be floating point, not {logits_hwK.dtype}")
        tensor = logits_hwK.detach().to(torch.float32).contiguous()
        logits = tensor.numpy() if tensor.device.type == "cpu" else tensor
    else:
        if logits_hwK.dtype.kind != "f":
            raise DataError(f"logits must be floating point, not {logits_hwK.dtype}")
        logits = np.ascontiguousarray(logits_hwK, np.float32)
    low, high = float(logits.min()), float(logits.max())
    if abs(low) < LARGEST and abs(high) < LARGEST:
        return logits, max(abs(low), abs(high))
    wrong = int((~(abs(logits) < float("inf"))).sum())
    if wrong:
        raise DataError(f"{wrong} of {np.prod(logits.shape)} logits are NaN or infinite")
    raise DataError(f"logits reach from {low:g} to {high:g}; beyond {LARGEST:g} they cannot be interpolated safely")


def as_groups(groups: Sequence[int] | Array | None, prompts: int) -> np.ndarray | None:
    """Check groups; None where every prompt is its own label."""
    if groups is None:
        return None
    tensor: Any = groups
    groups_K = np.asarray(tensor.cpu() if is_torch(groups) else groups)
    if groups_K.shape != (prompts,):
        raise ConfigError(f"groups must give one label for each of {prompts} prompts, not shape {groups_K.shape}")
    if groups_K.dtype.kind not in "iu" or groups_K[0] < 0 or (np.diff(groups_K.astype(np.int64)) < 0).any():
        raise ConfigError("groups must be whole numbers from 0 on that do not decrease")
    groups_K = groups_K.astype(np.int64)
    return None if np.array_equal(groups_K, np.arange(prompts)) else groups_K
