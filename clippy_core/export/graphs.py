"""The parts of a model as modules with tensors in and tensors out, ready to be traced for any size.

Shapes: B picture or text, H/W pixel, h/w grid, P = h·w location, D embedding, L token.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, NamedTuple
from unittest.mock import patch

import timm.models
import torch
from timm.layers import pos_embed_sincos as rotary
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn
from torch._dynamo.exc import UserError
from torch.export import Dim, ExportedProgram
from torch.nn import functional as F
from transformers import PreTrainedModel

from clippy_core.errors import DataError
from clippy_core.model.dual_encoder import DualEncoder
from clippy_core.model.text import TextTower, unit
from clippy_core.model.vision import VisionTower

MAX_CELLS = 1024
"""Grid rows or columns that a traced graph promises to take; ONNX files take more where memory lasts."""
CUBIC = -0.5
"""Slope of the cubic kernel at 1 that antialiased resampling uses. Source: Keys 1981, equation 15."""


class VisionGraph(nn.Module):
    """Pictures (B, 3, H, W) to unit vectors: of locations (B, h, w, D), and of the whole (B, D)."""

    def __init__(self, tower: VisionTower) -> None:
        super().__init__()
        # The tower alone: a traced program keeps all weights of its module, used or not.
        self.tower = tower

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        features = self.tower(pixels)
        return unit(features.patches_BPD).unflatten(1, features.grid), unit(self.tower.pool(features))


class TextGraph(nn.Module):
    """Token numbers and mask (B, L) to unit vectors (B, D)."""

    def __init__(self, tower: TextTower) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """See the class."""
        return unit(self.tower(ids, mask))


class SegmenterGraph(nn.Module):
    """Pictures (B, 3, H, W) and label embeddings (K, D) to cosines of every location with every label (B, h, w, K)."""

    def __init__(self, tower: VisionTower) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, pixels: Tensor, labels: Tensor) -> Tensor:
        """See the class."""
        features = self.tower(pixels)
        return unit(features.patches_BPD).unflatten(1, features.grid) @ unit(labels).T


class Part(NamedTuple):
    """A graph with what tracing needs.

    Attributes:
        name: What it is called.
        module: The graph.
        example: Inputs to trace with.
        dynamic: For each input, axis → symbol.
        inputs: Their names.
        outputs: Names of what comes out.
        axes: Name → axis names, with numbers where the size is fixed.
    """

    name: str
    module: nn.Module
    example: tuple[Tensor, ...]
    dynamic: tuple[dict[int, Any], ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    axes: dict[str, tuple[str | int, ...]]


def vision_part(model: DualEncoder) -> Part:
    """The image tower with unit vectors at its end."""
    example, dynamic = _pixels(model.vision)
    axes = {
        "pixels": ("batch", 3, "height", "width"),
        "patches": ("batch", "rows", "columns", model.vision.width),
        "pooled": ("batch", model.vision.width),
    }
    return Part("vision", VisionGraph(model.vision), (example,), (dynamic,), ("pixels",), ("patches", "pooled"), axes)


def text_part(model: DualEncoder) -> Part:
    """The text tower with unit vectors at its end."""
    tokens = model.config.text.max_tokens
    length = max(2, min(7, tokens - 1))
    ids_BL = torch.arange(2 * length).view(2, length) % int(model.text.encoder.config.vocab_size)  # type: ignore[union-attr]
    mask_BL = torch.ones_like(ids_BL)
    mask_BL[1, length // 2 + 1 :] = 0
    dynamic = {0: Dim("batch", min=1), 1: Dim("tokens", min=1, max=tokens)}
    axes: dict[str, tuple[str | int, ...]] = {
        "ids": ("batch", "tokens"),
        "mask": ("batch", "tokens"),
        "embeddings": ("batch", model.text.width),
    }
    return Part(
        "text", TextGraph(model.text), (ids_BL, mask_BL), (dynamic, dynamic), ("ids", "mask"), ("embeddings",), axes
    )


def segmenter_part(model: DualEncoder) -> Part:
    """The image tower compared with label embeddings."""
    example, dynamic = _pixels(model.vision)
    labels_KD = torch.linspace(-1, 1, 3 * model.vision.width).view(3, -1)
    axes = {
        "pixels": ("batch", 3, "height", "width"),
        "labels": ("label_count", model.vision.width),
        "logits": ("batch", "rows", "columns", "label_count"),
    }
    inputs = ("pixels", "labels")
    examples, symbols = (example, labels_KD), (dynamic, {0: Dim("label_count", min=1)})
    return Part("segmenter", SegmenterGraph(model.vision), examples, symbols, inputs, ("logits",), axes)


def _pixels(tower: VisionTower) -> tuple[Tensor, dict[int, Any]]:
    """Pictures to trace with, and which of their axes may be of any length."""
    cell = tower.stride
    # Sizes that no backbone has as its own, or tracing would take the branch for that size.
    rows, columns = 5, 7
    example = torch.linspace(-1, 1, 2 * 3 * rows * columns * cell * cell).view(2, 3, rows * cell, columns * cell)
    dynamic = {
        0: Dim("batch", min=1),
        2: cell * Dim("rows", min=1, max=MAX_CELLS),  # type: ignore[operator]
        3: cell * Dim("columns", min=1, max=MAX_CELLS),  # type: ignore[operator]
    }
    return example, dynamic


@torch.no_grad()
def trace(part: Part) -> ExportedProgram:
    """The part as a ``torch.export`` program for inputs of any size.

    Raises:
        DataError: A tower's code depends on the size in a way that cannot be traced.
    """
    try:
        with traceable(part.module):
            return torch.export.export(part.module.eval(), part.example, dynamic_shapes=part.dynamic, strict=False)
    except (UserError, RuntimeError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DataError(f"the model's {part.name} cannot be traced for pictures of any size: {reason[:300]}") from error


@contextmanager
def traceable(module: nn.Module) -> Iterator[None]:
    """While the block runs, write what depends on the picture's size in a way that traces well.

    Convolutions that pad as TensorFlow does work their padding out from the size, which makes tracing take minutes;
    for sizes that are multiples of the stride, as here, it is always the same. Position embeddings are resampled by
    two matrix products, because few runtimes know antialiased bicubic resampling.
    """
    with ExitStack() as undo:
        for parent in list(module.modules()):
            same = {name: child for name, child in parent.named_children() if isinstance(child, Conv2dSame)}
            for name, child in same.items():
                setattr(parent, name, FixedPadding(child))  # type: ignore[arg-type]
                undo.callback(setattr, parent, name, child)
        for encoder in [child for child in module.modules() if isinstance(child, PreTrainedModel)]:
            # The fused attention has other strides traced than computed, on which T5's reshaping stumbles.
            undo.callback(encoder.set_attn_implementation, str(encoder.config._attn_implementation))
            encoder.set_attn_implementation("eager")
        for file in ("vision_transformer", "eva"):
            undo.enter_context(patch.object(getattr(timm.models, file), "resample_abs_pos_embed", resample_positions))
        own = getattr(rotary, "_build_grid", None)
        if own is not None:
            undo.enter_context(patch.object(rotary, "_build_grid", partial(build_grid, own)))
        yield


class FixedPadding(nn.Module):
    """A convolution padded as TensorFlow pads it, for sizes that are multiples of its stride."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.convolution = convolution
        geometry = zip(convolution.kernel_size, convolution.dilation, convolution.stride, strict=True)
        height, width = (max((kernel - 1) * spread + 1 - step, 0) for kernel, spread, step in geometry)
        self.padding = (width // 2, width - width // 2, height // 2, height - height // 2)

    def forward(self, x: Tensor) -> Tensor:
        """As the convolution's own."""
        own = self.convolution
        padded = F.pad(x, self.padding)
        return F.conv2d(padded, own.weight, own.bias, own.stride, 0, own.dilation, own.groups)  # type: ignore[arg-type]


def resample_positions(
    posemb: Tensor,
    new_size: list[int],
    old_size: list[int] | None = None,
    num_prefix_tokens: int = 1,
    **_other: Any,
) -> Tensor:
    """Position embeddings (1, prefix + locations, C) for another grid: what timm's function of this role does."""
    prefix, places = posemb[:, :num_prefix_tokens], posemb[:, num_prefix_tokens:]
    side = round(places.shape[1] ** 0.5)
    rows, columns = old_size or (side, side)
    grid_hwC = places.float().reshape(rows, columns, -1)
    down = torch.einsum("yh,hwc->ywc", cubic_weights(new_size[0], rows), grid_hwC)
    across = torch.einsum("xw,ywc->yxc", cubic_weights(new_size[1], columns), down)
    return torch.cat([prefix, across.flatten(0, 1)[None].to(posemb.dtype)], 1)


def build_grid(own: Callable[..., Tensor], feat_shape: list[int], *args: Any, **options: Any) -> Tensor:
    """Coordinates (h, w, 2) for rotary positions: what timm's function of this name does, for DINOv3.

    Its ``arange`` from 0.5 has a length that the way to ONNX rounds to that of the example; whole numbers do not.
    """
    plain = not args and options.get("normalize_coords") == "separate" and options.get("grid_indexing", "ij") == "ij"
    if options.get("grid_type") != "centered" or not plain or options.get("ref_feat_shape") is not None:
        return own(feat_shape, *args, **options)
    offset = 0.5 + float(options.get("grid_offset", 0.0))
    axes = [(torch.arange(side).float() + offset) / side for side in feat_shape]
    return 2 * torch.stack(torch.meshgrid(axes, indexing="ij"), dim=-1) - 1


def cubic_weights(new: int, old: int) -> Tensor:
    """The matrix (new, old) that resamples an axis: bicubic, antialiased, ``align_corners=False``.

    Source: Keys, *Cubic convolution interpolation* (1981), widened by the scale when it shrinks, rows adding up to 1.
    """
    scale = old / new
    # max() of a size that is not known while tracing would choose one branch for good.
    centre_y1 = ((torch.arange(new) + 0.5) * scale)[:, None]
    width_y1 = torch.clamp(torch.ones_like(centre_y1) * scale, min=1.0)
    distance_yh = ((torch.arange(old) + 0.5 - centre_y1) / width_y1).abs()
    near = ((CUBIC + 2) * distance_yh - (CUBIC + 3)) * distance_yh**2 + 1
    far = CUBIC * (((distance_yh - 5) * distance_yh + 8) * distance_yh - 4)
    weights_yh = torch.where(distance_yh < 1, near, torch.where(distance_yh < 2, far, torch.zeros_like(far)))
    return weights_yh / weights_yh.sum(1, keepdim=True)
