"""The towers themselves, in torch, on any device.

Shapes: B picture or text, P = h·w location, D embedding, K word, L token, H/W pixel.
"""

from contextlib import AbstractContextManager

import numpy as np
import torch
from torch import Tensor

from clippy_core.model.config import ModelConfig
from clippy_core.model.device import Placement
from clippy_core.model.dual_encoder import ImageEmbedding
from clippy_core.model.engine import fill
from clippy_core.model.text import unit
from clippy_core.model.tokenizer import Tokenizer
from clippy_core.model.weights import LoadedModel

TEXT_BATCH = 128


class TorchEngine:
    """A dual encoder on a device; see :class:`~clippy_core.model.engine.Engine`.

    Args:
        loaded: The model and its tokenizer.
        placement: Device and precision.
        prepare: Bring the model to the device and its convolutions into the fastest memory layout. Off for a model in
            training, which is where it should be and whose memory must not be rearranged under the optimiser.
        weights: Hash of the weights, where it is known and they stay as they are.
    """

    words_apart = False  # matrix products of another height may differ in the last bit

    def __init__(
        self, loaded: LoadedModel, placement: Placement, *, prepare: bool = True, weights: str | None = None
    ) -> None:
        self.model = loaded.model
        if prepare:
            # Convolutions on channels-last memory take about half the time on a CPU; other layers do not mind.
            self.model.to(device=placement.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.tokenizer: Tokenizer = loaded.tokenizer
        self.placement = placement
        self.identity: str | None = None
        if weights is not None:
            self.identity = f"{weights} torch {torch.__version__} {placement.device} {placement.dtype}"

    @property
    def config(self) -> ModelConfig:
        """What the model is."""
        return self.model.config

    @property
    def stride(self) -> int:
        """Pixels per grid cell."""
        return self.model.vision.stride

    @property
    def logit_scale(self) -> float:
        """Factor on cosines, at most 100."""
        return float(self.model.logit_scale.detach().exp().clamp(max=100.0))

    def computing(self) -> AbstractContextManager[object]:
        """A context without gradients."""
        return torch.inference_mode()

    def encode_image(self, pixels_B3HW: np.ndarray) -> ImageEmbedding:
        """Embed normalised pictures."""
        with torch.inference_mode():
            pixels = torch.from_numpy(pixels_B3HW).to(self.placement.device)
            with self.placement.autocast():
                return self.model.encode_image(pixels)

    def embed_words(self, words: list[str], templates: tuple[str, ...]) -> Tensor:
        """One unit vector a word, shape (K, D); texts of similar length share a batch."""
        texts = fill(templates, words)
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        embedded: list[Tensor] = [torch.empty(0)] * len(texts)
        with torch.inference_mode():
            for first in range(0, len(order), TEXT_BATCH):
                batch = order[first : first + TEXT_BATCH]
                for index, vector_D in zip(batch, self._embed([texts[index] for index in batch]), strict=True):
                    embedded[index] = vector_D
            return unit(torch.stack(embedded).view(len(words), len(templates), -1).mean(1))

    def _embed(self, texts: list[str]) -> Tensor:
        ids_BL, mask_BL = (torch.from_numpy(array).to(self.placement.device) for array in self.tokenizer(texts))
        with self.placement.autocast():
            return self.model.encode_text(ids_BL, mask_BL)

    def array(self, values: np.ndarray) -> Tensor:
        """Numbers as a tensor on the device."""
        return torch.from_numpy(values).to(self.placement.device)
