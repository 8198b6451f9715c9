"""What is trained: the dual encoder, from raw pixels and token numbers to what the loss takes.

Shapes: B pair, H/W pixel, L token, D embedding.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from clippy_core.model.dual_encoder import DualEncoder
from clippy_core.training.config import LossConfig, StartConfig

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

    def forward(self, pixels_B3HW: Tensor, ids_BL: Tensor, mask_BL: Tensor) -> PairEmbeddings:
        """Embed pairs: ``uint8`` RGB pixels, token numbers and their mask, all on the model's device."""
        normalised_B3HW = pixels_B3HW.float() * self.factor_311 - self.offset_311
        image_BD, text_BD, scale = self.model(normalised_B3HW, ids_BL, mask_BL)
        return PairEmbeddings(image_BD, text_BD, scale, self.bias)

    @torch.no_grad()
    def clamp_scale(self) -> None:
        """Keep the factor on cosines at most 100, as the paper does."""
        self.model.logit_scale.clamp_(max=math.log(MAX_SCALE))
