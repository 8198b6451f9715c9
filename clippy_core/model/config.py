"""What a model is, as data: enough to build it, prepare its input and describe it. Imports no torch."""

import math
from dataclasses import dataclass, field
from typing import Any

from clippy_core.configuration import FromDict, check_types, require

IMAGE_POOLS = ("max", "mean", "cls")
TEXT_POOLS = ("mean", "cls")
DENSE_ACTIVATIONS = ("identity", "tanh")


@dataclass(frozen=True)
class VisionConfig(FromDict):
    """The image tower: any timm backbone that yields a grid.

    Attributes:
        backbone: timm architecture name, such as ``"vit_base_patch16_224"``.
        size: Short side in pixels that a picture is resized to for dense prediction.
        output_stride: Pixels per grid cell for a CNN that can be dilated (8, 16 or 32); None keeps the backbone's own.
        mean: Per-channel RGB mean that is subtracted, pixels scaled to 0…1.
        std: Per-channel RGB standard deviation that is divided by, pixels scaled to 0…1.
        pool: How locations become one embedding: ``max`` over locations per channel (the paper), ``mean``, or ``cls``.
        pool_prefix: Include prefix tokens (CLS, registers) in ``max`` and ``mean``, as the published code does.
        projection: Width of a linear layer after the trunk, without bias; None for none, as in the paper.
        levels: Names of the backbone's modules, such as ``blocks.4``, whose outputs join the last features at every
            location: each brought to the grid, each of unit length, one after the other. Early layers see a small
            neighbourhood, so they say what is *here* where the last one says what is *near*. Empty for the last alone.
        trunk_args: Further keyword arguments for ``timm.create_model``.
    """

    backbone: str
    size: int = 224
    output_stride: int | None = None
    mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
    std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)
    pool: str = "max"
    pool_prefix: bool = False
    projection: int | None = None
    levels: tuple[str, ...] = ()
    trunk_args: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_types(self, "vision.")
        require(self.pool in IMAGE_POOLS, "vision.pool", self.pool, f"one of {', '.join(IMAGE_POOLS)}")
        require(self.size > 0, "vision.size", self.size, "a positive number of pixels")
        require(
            self.output_stride in (None, 8, 16, 32), "vision.output_stride", self.output_stride, "8, 16, 32 or none"
        )
        require(len(set(self.levels)) == len(self.levels), "vision.levels", self.levels, "each name once")
        require(_three_numbers(self.mean), "vision.mean", self.mean, "three numbers")
        require(_three_numbers(self.std) and min(self.std) > 0, "vision.std", self.std, "three positive numbers")
        require(
            self.projection is None or self.projection > 0, "vision.projection", self.projection, "a positive width"
        )


@dataclass(frozen=True)
class TextConfig(FromDict):
    """The text tower: any Hugging Face text encoder, pooled to one vector.

    Attributes:
        encoder: The encoder's own configuration as ``transformers`` writes it, ``model_type`` included.
        pool: ``mean`` over tokens that are not padding, or ``cls`` for the first token.
        dense: Width of a dense layer after pooling (Sentence-T5 has one); None for none.
        dense_bias: Whether the dense layer has a bias.
        dense_activation: ``identity`` or ``tanh``, after the dense layer.
        projection: Width of a linear map into the image space, without bias; None for none, as in the paper.
        max_tokens: Longer texts are cut to this many tokens.
    """

    encoder: dict[str, Any]
    pool: str = "mean"
    dense: int | None = None
    dense_bias: bool = False
    dense_activation: str = "identity"
    projection: int | None = None
    max_tokens: int = 77

    def __post_init__(self) -> None:
        check_types(self, "text.")
        require("model_type" in self.encoder, "text.encoder", sorted(self.encoder), "a table with model_type")
        require(self.pool in TEXT_POOLS, "text.pool", self.pool, f"one of {', '.join(TEXT_POOLS)}")
        require(
            self.dense_activation in DENSE_ACTIVATIONS,
            "text.dense_activation",
            self.dense_activation,
            f"one of {', '.join(DENSE_ACTIVATIONS)}",
        )
        require(self.max_tokens > 1, "text.max_tokens", self.max_tokens, "at least 2")
        for name in ("dense", "projection"):
            width = getattr(self, name)
            require(width is None or width > 0, f"text.{name}", width, "a positive width")


@dataclass(frozen=True)
class ModelConfig(FromDict):
    """A dual encoder and how to use it.

    Attributes:
        name: What the model is called in outputs.
        vision: The image tower.
        text: The text tower.
        templates: Prompts a word is put into when the user gives none; each has one ``{}``.
        logit_scale: Factor on cosines, the inverse temperature; the paper starts at 1/0.07.
        description: One line about the model.
        quality: Published or measured figures, with the data they were measured on, in one line.
        licence: SPDX expression of the weights' licence, or a short text.
    """

    name: str
    vision: VisionConfig
    text: TextConfig
    templates: tuple[str, ...] = ("a photo of a {}.",)
    logit_scale: float = 1 / 0.07
    description: str = ""
    quality: str = "not measured"
    licence: str = "unknown"

    def __post_init__(self) -> None:
        if not isinstance(self.vision, VisionConfig):
            object.__setattr__(self, "vision", VisionConfig.from_dict(self.vision))
        if not isinstance(self.text, TextConfig):
            object.__setattr__(self, "text", TextConfig.from_dict(self.text))
        check_types(self, "")
        for template in self.templates:
            well_formed = isinstance(template, str) and template.count("{}") == 1
            require(well_formed, "templates", template, "each with exactly one {}")
        require(len(self.templates) > 0, "templates", self.templates, "at least one")
        require(0 < self.logit_scale <= 100, "logit_scale", self.logit_scale, "above 0 and at most 100")


def _three_numbers(values: tuple[Any, ...]) -> bool:
    return len(values) == 3 and all(type(value) in (int, float) and math.isfinite(value) for value in values)
