"""The text tower: a Hugging Face encoder, pooled to one vector.

Shapes: B text, L token, C encoder width, D embedding.
"""

from difflib import get_close_matches

import torch
from torch import Tensor, nn

from clippy_core.errors import ConfigError
from clippy_core.model.config import TextConfig


class TextTower(nn.Module):
    """Encoder → pooling → optional dense layer → optional linear map into the image space.

    Raises:
        ConfigError: ``transformers`` does not know the encoder's ``model_type`` or cannot build it.
    """

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = _build_encoder(config)
        width = int(self.encoder.config.hidden_size)  # type: ignore[union-attr]
        self.dense = nn.Linear(width, config.dense, bias=config.dense_bias) if config.dense else nn.Identity()
        self.activation = nn.Tanh() if config.dense_activation == "tanh" else nn.Identity()
        width = config.dense or width
        self.projection = nn.Linear(width, config.projection, bias=False) if config.projection else nn.Identity()
        self.width = config.projection or width

    def forward(self, ids_BL: Tensor, mask_BL: Tensor) -> Tensor:
        """Embed tokenised texts.

        Args:
            ids_BL: Token numbers, ``int64``.
            mask_BL: 1 for tokens, 0 for padding, ``int64``.

        Returns:
            Shape (B, D), not normalised.
        """
        states_BLC = self.encoder(input_ids=ids_BL, attention_mask=mask_BL).last_hidden_state
        if self.config.pool == "cls":
            pooled_BC = states_BLC[:, 0]
        else:
            weights_BL1 = mask_BL.unsqueeze(-1).to(states_BLC.dtype)
            pooled_BC = (states_BLC * weights_BL1).sum(1) / weights_BL1.sum(1).clamp(min=1e-9)
        return self.projection(self.activation(self.dense(pooled_BC)))


def _build_encoder(config: TextConfig) -> nn.Module:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING, AutoConfig
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_TEXT_ENCODING_MAPPING,
        AutoModel,
        AutoModelForTextEncoding,
    )

    # The number format of a published file is not the one to compute in; see ``device.Placement``.
    arguments = {name: value for name, value in config.encoder.items() if name not in ("dtype", "torch_dtype")}
    kind = arguments.pop("model_type")
    if not isinstance(kind, str) or kind not in CONFIG_MAPPING:
        near = get_close_matches(str(kind), CONFIG_MAPPING, n=3)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise ConfigError(f"text.encoder has model_type {kind!r}, which transformers does not know{hint}")
    try:
        encoder_config = AutoConfig.for_model(kind, **arguments)
        # The first knows which half of an encoder-decoder to take, the second also knows encoders it leaves out.
        listed = type(encoder_config) in MODEL_FOR_TEXT_ENCODING_MAPPING
        encoder = (AutoModelForTextEncoding if listed else AutoModel).from_config(encoder_config)
    except Exception as error:
        # Arguments that do not fit surface as anything, from KeyError to kinds of transformers' own.
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ConfigError(f"text.encoder of type {kind!r} cannot be built: {reason[:300]}") from error
    takes_text = encoder.main_input_name == "input_ids" and not encoder_config.is_encoder_decoder
    if not listed and not (takes_text and hasattr(encoder_config, "hidden_size")):
        raise ConfigError(f"text.encoder of type {kind!r} is not a text encoder")
    if hasattr(encoder, "pooler"):
        # The pooler's output is never read, so its weights would neither be trained nor be worth storing.
        encoder.pooler = None
    return encoder


def unit(vectors: Tensor) -> Tensor:
    """Divide by the L2 norm along the last axis, in float32."""
    return torch.nn.functional.normalize(vectors.float(), dim=-1)
