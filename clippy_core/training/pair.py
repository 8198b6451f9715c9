"""What is trained: the dual encoder, from raw pixels and token numbers to what the loss takes.

Shapes: B pair, H/W pixel, L token, D embedding, P location, C cell along one side.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from clippy_core.errors import DataError
from clippy_core.model.dual_encoder import DualEncoder
from clippy_core.model.text import unit
from clippy_core.model.vision import ImageFeatures
from clippy_core.training.config import LossConfig, StartConfig
from clippy_core.training.data import WHOLE

MAX_SCALE = 100.0


class PairEmbeddings(NamedTuple):
    """A batch of pairs in the joint space.

    Attributes:
        image_BD: Unit vectors, ``float32``.
        text_BD: Unit vectors, ``float32``.
        scale: Factor on cosines, 0-d.
        bias: Added to logits, 0-d; nothing for ``infonce``.
    """

    image_BD: Tensor
    text_BD: Tensor
    scale: Tensor
    bias: Tensor | None

    def detached(self) -> "PairEmbeddings":
        """The same numbers without a graph."""
        return PairEmbeddings(*(value if value is None else value.detach() for value in self))  # type: ignore[arg-type]


class TrainedPair(nn.Module):
    """The dual encoder with what only training needs.

    Args:
        model: The model to train.
        start: Patch dropout, checkpointing and compilation.
        loss: Whose bias is trained.

    Raises:
        ConfigError: A tower that cannot do what ``start`` asks for.
    """

    factor_311: Tensor
    offset_311: Tensor

    def __init__(self, model: DualEncoder, start: StartConfig, loss: LossConfig) -> None:
        super().__init__()
        self.model = model
        self.bias = nn.Parameter(torch.tensor(loss.bias)) if loss.kind == "siglip" else None
        if start.patch_dropout:
            model.vision.drop_patches(start.patch_dropout)
        if start.grad_checkpointing:
            model.vision.trunk.set_grad_checkpointing(True)  # type: ignore[operator]
            encoder: Any = model.text.encoder  # later versions of transformers name its method otherwise
            recompute = getattr(encoder, "activation_checkpointing_enable", encoder.gradient_checkpointing_enable)
            recompute({"use_reentrant": False})
        if start.compile:
            model.vision.compile()
            model.text.compile()
        mean_311, std_311 = (torch.tensor(v).view(3, 1, 1) for v in (model.config.vision.mean, model.config.vision.std))
        self.register_buffer("factor_311", 1 / 255 / std_311, persistent=False)
        self.register_buffer("offset_311", mean_311 / std_311, persistent=False)

    def forward(
        self, pixels_B3HW: Tensor, ids_BL: Tensor, mask_BL: Tensor, boxes_B4: Tensor | None = None
    ) -> PairEmbeddings:
        """Embed pairs: ``uint8`` RGB pixels, token numbers and their mask, all on the model's device.

        Pictures whose caption speaks of a part of them, a box in shares of the side, are pooled by :func:`pool_boxes`.
        """
        normalised_B3HW = pixels_B3HW.float() * self.factor_311 - self.offset_311
        if boxes_B4 is None:
            image_BD, text_BD, scale = self.model(normalised_B3HW, ids_BL, mask_BL)
            return PairEmbeddings(image_BD, text_BD, scale, self.bias)
        model = self.model
        features = model.vision(normalised_B3HW)
        whole_BD, part_BD = model.vision.pool(features), pool_boxes(features, boxes_B4)
        image_BD = unit(torch.where((boxes_B4 == boxes_B4.new_tensor(WHOLE)).all(1, keepdim=True), whole_BD, part_BD))
        scale = model.logit_scale.exp().clamp(max=MAX_SCALE)
        return PairEmbeddings(image_BD, model.encode_text(ids_BL, mask_BL), scale, self.bias)

    @torch.no_grad()
    def clamp_scale(self) -> None:
        """Keep the factor on cosines at most 100, as the paper does."""
        self.model.logit_scale.clamp_(max=math.log(MAX_SCALE))


def pool_boxes(features: ImageFeatures, boxes_B4: Tensor) -> Tensor:
    """The mean over the locations in each picture's box, shape (B, D); always over one at least.

    A box holds hardly anything but what its caption names, so every location in it should agree, where of a whole
    picture only some do.

    Args:
        features: All locations of the grid, row by row: none dropped.
        boxes_B4: (left, top, right, bottom) in shares of the side.

    Raises:
        DataError: Patches were dropped.
    """
    rows, columns = features.grid
    if features.patches_BPD.shape[1] != rows * columns:
        raise DataError("captions speak of parts of pictures (box), which needs every patch; set model.patch_dropout 0")
    inside_BP = (
        _covered(boxes_B4[:, 1], boxes_B4[:, 3], rows)[:, :, None]
        & _covered(boxes_B4[:, 0], boxes_B4[:, 2], columns)[:, None, :]
    ).flatten(1)
    weights_BP = inside_BP.to(features.patches_BPD.dtype)
    return torch.einsum("bp,bpd->bd", weights_BP / weights_BP.sum(1, keepdim=True), features.patches_BPD)


def _covered(low_B: Tensor, high_B: Tensor, cells: int) -> Tensor:
    """Which of ``cells`` along one side have their middle in low…high, or hold its middle if none has."""
    middles_C = (torch.arange(cells, device=low_B.device) + 0.5) / cells
    inside_BC = (middles_C >= low_B[:, None]) & (middles_C <= high_B[:, None])
    nearest_BC = (middles_C - ((low_B + high_B) / 2)[:, None]).abs()
    closest_BC = torch.nn.functional.one_hot(nearest_BC.argmin(1), cells).bool()
    return torch.where(inside_BC.any(1, keepdim=True), inside_BC, closest_BC)
