"""What the image tower says of one picture before anything is pooled or normalised.

Shapes: P = h·w location, N prefix token, D embedding, A attention head, T = N + P token, H/W pixel.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from clippy_core.model.preprocess import to_input, working_size

if TYPE_CHECKING:
    from clippy_core.model.vision import VisionTower
    from clippy_core.segmentation.segmenter import Segmenter


@dataclass(frozen=True, eq=False)
class Look:
    """Features of a picture, ``float32``.

    Attributes:
        patches_PD: Features of the locations, row by row, as pooling sees them: not normalised.
        prefix_ND: Features of prefix tokens (CLS first, then registers), likewise; N is 0 for a CNN.
        grid: (h, w) with P = h·w.
        lengths: Lengths of what the tower computed, a value a location: ``features`` as above, or for a model that
            joins several levels, each of which it brings to length 1 before, those of each level and of the ``last``.
        attention_NP: How much each prefix token attends to each location in the last block, the mean over heads; rows
            sum to at most 1, as some attention stays with the prefix tokens. None where the tower has no such block.
    """

    patches_PD: np.ndarray
    prefix_ND: np.ndarray
    grid: tuple[int, int]
    lengths: dict[str, np.ndarray] = field(default_factory=dict)
    attention_NP: np.ndarray | None = None

    @property
    def unit_PD(self) -> np.ndarray:
        """The locations' features at unit length."""
        return unit(self.patches_PD)


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors along the last axis brought to length 1; one of length 0 stays."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


@torch.inference_mode()
def look(segmenter: "Segmenter", pixels_HW3: np.ndarray, size: int | None = None) -> Look:
    """Show a picture to the image tower, as :meth:`Segmenter.encode` does.

    Args:
        segmenter: The model, run by torch.
        pixels_HW3: The picture, ``uint8`` RGB.
        size: Short side in pixels it is resized to; None for the model's own.

    Raises:
        UsageError: An exported model, which does not show its inside.
    """
    vision = segmenter.model.vision
    wanted = working_size(pixels_HW3.shape[:2], size or segmenter.config.vision.size, vision.stride)
    pixels_3HW = torch.from_numpy(to_input(pixels_HW3, wanted, segmenter.config.vision)).to(segmenter.placement.device)
    attention = LastAttention()
    with segmenter.placement.autocast(), attention, levels_seen(vision) as seen:
        features = vision(pixels_3HW[None])
    patches_PD, prefix_ND = (part[0].float().cpu().numpy() for part in (features.patches_BPD, features.prefix_BND))
    lengths = {name: _lengths(vision, output, features.grid) for name, output in seen.items()}
    return Look(
        patches_PD,
        prefix_ND,
        features.grid,
        lengths or {"features": np.linalg.norm(patches_PD, axis=1)},
        attention.of_prefix(len(prefix_ND), len(patches_PD)),
    )


@contextmanager
def levels_seen(vision: "VisionTower") -> Iterator[dict[str, Tensor]]:
    """Outputs of a tower's levels and of its trunk (``last``) as they come by, by name; none for a tower of one level.

    A tower that joins levels brings each to length 1, after which lengths say nothing.
    """
    seen: dict[str, Tensor] = {}
    if not vision.config.levels:
        yield seen
        return

    def remember(name: str) -> Any:
        return lambda module, inputs, output: seen.__setitem__(name, output)

    def last(pixels_B3HW: Tensor) -> Tensor:
        seen["last"] = run(pixels_B3HW)
        return seen["last"]

    run: Any = vision.trunk.forward_features
    with ExitStack() as stack:
        for name in vision.config.levels:
            stack.callback(vision.trunk.get_submodule(name).register_forward_hook(remember(name)).remove)
        # A trunk without its classifier is not called as a module, so no hook would see what it gives.
        vision.trunk.__dict__["forward_features"] = last
        stack.callback(vision.trunk.__dict__.pop, "forward_features")
        yield seen


def _lengths(vision: "VisionTower", output: Tensor, grid: tuple[int, int]) -> np.ndarray:
    """Lengths of the features of a level, a value a location of the grid; the mean over what falls into a cell."""
    if output.ndim == 3:
        return output[0, vision.prefix_tokens :].float().norm(dim=-1).cpu().numpy()
    lengths_hw = output[0].float().norm(dim=-1 if vision.channels_last_output else 0)
    return torch.nn.functional.adaptive_avg_pool2d(lengths_hw[None], grid)[0].flatten().cpu().numpy()


class LastAttention(TorchFunctionMode):
    """While it is on, remembers the attention of the last block that computes any.

    What a block attends to is decided after norms and rotary positions that differ from backbone to backbone; their
    queries and keys are taken where all of them meet, at the attention itself.
    """

    def __init__(self) -> None:
        super().__init__()
        self._seen: tuple[Tensor, Tensor, float | None] | Tensor | None = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if func is torch.nn.functional.scaled_dot_product_attention:
            self._seen = args[0], args[1], kwargs.get("scale")
        elif func in (Tensor.softmax, torch.softmax, torch.nn.functional.softmax) and result.ndim == 4:
            self._seen = result
        return result

    def of_prefix(self, prefix: int, locations: int) -> np.ndarray | None:
        """Attention of ``prefix`` tokens to ``locations`` that follow them, ``float32`` (N, P), the mean over heads.

        None if there are no prefix tokens or the last attention was not among all tokens.
        """
        if self._seen is None or not prefix:
            return None
        if isinstance(self._seen, Tensor):
            shares_ATT = self._seen[0]
            shares_ANT = shares_ATT[:, :prefix]
        else:
            queries_BATD, keys_BATD, scale = self._seen
            if queries_BATD.ndim != 4:
                return None
            queries_AND, keys_ATD = queries_BATD[0, :, :prefix].float(), keys_BATD[0].float()
            scale = scale if scale is not None else keys_ATD.shape[-1] ** -0.5
            shares_ANT = (queries_AND @ keys_ATD.mT * scale).softmax(-1)
        if shares_ANT.shape[-1] != prefix + locations:
            return None
        return shares_ANT[..., prefix:].float().mean(0).cpu().numpy()
