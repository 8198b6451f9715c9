"""What computes embeddings: the one thing that a segmenter needs of a model. Imports no torch.

There are two: :class:`~clippy_core.model.torch_engine.TorchEngine` runs the towers themselves, on any device, and
:class:`~clippy_core.model.onnx_engine.OnnxEngine` runs their graphs on the CPU without torch. What comes out is a
torch tensor on the engine's device from the first and a numpy array from the second; kernels take both.

Shapes: B picture, P = h·w location, D embedding, K word, H/W pixel.
"""

from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np

from clippy_core.model.config import ModelConfig
from clippy_core.model.tokenizer import Tokenizer

Array = Any
"""A torch tensor or a numpy array, depending on the engine."""


class Encoded(Protocol):
    """A batch of pictures in the joint space."""

    @property
    def pooled_BD(self) -> Array:
        """One unit vector a picture, ``float32``."""
        ...

    @property
    def patches_BPD(self) -> Array:
        """One unit vector a location, row by row, ``float32``."""
        ...

    @property
    def grid(self) -> tuple[int, int]:
        """(h, w) with P = h·w."""
        ...


class Engine(Protocol):
    """A model that is ready to compute."""

    @property
    def config(self) -> ModelConfig:
        """What the model is."""
        ...

    @property
    def tokenizer(self) -> Tokenizer:
        """Its tokenizer."""
        ...

    @property
    def placement(self) -> Any:
        """Where and how it computes: ``device.type``, ``dtype``, and ``notice``, something to tell the user."""
        ...

    @property
    def stride(self) -> int:
        """Pixels per grid cell."""
        ...

    @property
    def logit_scale(self) -> float:
        """Factor on cosines, at most 100."""
        ...

    @property
    def identity(self) -> str | None:
        """What determines its text embeddings to the last bit, as text; None where that is not known."""
        ...

    @property
    def words_apart(self) -> bool:
        """Whether a word's embedding is the same to the last bit whichever words are embedded with it."""
        ...

    def computing(self) -> AbstractContextManager[object]:
        """A context for everything that is computed from what the engine gives."""
        ...

    def encode_image(self, pixels_B3HW: np.ndarray) -> Encoded:
        """Embed normalised pictures, ``float32``, whose sides are multiples of the stride."""
        ...

    def embed_words(self, words: list[str], templates: tuple[str, ...]) -> Array:
        """One unit vector a word, ``float32`` of shape (K, D): the mean over templates of the texts' embeddings."""
        ...

    def array(self, values: np.ndarray) -> Array:
        """Numbers as the engine gives them itself."""
        ...


def fill(templates: tuple[str, ...], words: list[str]) -> list[str]:
    """Every word in every template, the templates of a word side by side."""
    return [template.replace("{}", word) for word in words for template in templates]
