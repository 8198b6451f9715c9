"""The model: two towers whose normalised embeddings are compared by cosine.

Shapes: B image or text, H/W pixel, P location, D embedding, L token.
Source: *Perceptual Grouping in Contrastive Vision-Language Models* (arXiv 2210.09996), section 3.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from clippy_core.errors import ConfigError
from clippy_core.model.config import ModelConfig
from clippy_core.model.text import TextTower, unit
from clippy_core.model.vision import VisionTower


class ImageEmbedding(NamedTuple):
    """A batch of pictures in the joint space.

    Attributes:
        pooled_BD: One unit vector an image, ``float32``.
        patches_BPD: One unit vector a location, row by row, ``float32``.
        grid: (h, w) with P = h·w.
    """

    pooled_BD: Tensor
    patches_BPD: Tensor
    grid: tuple[int, int]


class DualEncoder(nn.Module):
    """Image tower, text tower and learned logit scale.

    Raises:
        ConfigError: The towers' widths differ, or a tower cannot be built.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.vision = VisionTower(config.vision)
        self.text = TextTower(config.text)
        if self.vision.width != self.text.width:
            raise ConfigError(
                f"the towers of {config.name!r} do not meet: image embeddings have {self.vision.width} channels, text "
                f"embeddings {self.text.width}; set vision.projection or text.projection"
            )
        self.logit_scale = nn.Parameter(torch.tensor(math.log(config.logit_scale)))

    def encode_image(self, pixels_B3HW: Tensor) -> ImageEmbedding:
        """Embed normalised pictures of any size; see :meth:`VisionTower.forward` about padding."""
        features = self.vision(pixels_B3HW)
        return ImageEmbedding(unit(self.vision.pool(features)), unit(features.patches_BPD), features.grid)

    def encode_text(self, ids_BL: Tensor, mask_BL: Tensor) -> Tensor:
        """Embed tokenised texts as unit vectors, shape (B, D), ``float32``."""
        return unit(self.text(ids_BL, mask_BL))

    def forward(self, pixels_B3HW: Tensor, ids_BL: Tensor, mask_BL: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Pooled image embeddings, text embeddings, and the factor on their cosines (at most 100)."""
        pooled_BD = unit(self.vision.pool(self.vision(pixels_B3HW)))
        return pooled_BD, self.encode_text(ids_BL, mask_BL), self.logit_scale.exp().clamp(max=100.0)
