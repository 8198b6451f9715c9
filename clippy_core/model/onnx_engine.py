"""The towers as graphs, run by ONNX Runtime on the CPU. Imports neither torch nor timm nor transformers.

Shapes: B picture or text, P = h·w location, D embedding, K word, L token, U row of the table, H/W pixel.
"""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np

from clippy_core.model.config import ModelConfig
from clippy_core.model.engine import fill
from clippy_core.model.tokenizer import Tokenizer


class Cpu(NamedTuple):
    """The only device of this engine, with the attributes that torch's have."""

    type: str = "cpu"
    index: int | None = None

    def __str__(self) -> str:
        return self.type


class OnnxPlacement(NamedTuple):
    """Where the graphs run; see :class:`~clippy_core.model.device.Placement`.

    Attributes:
        device: The CPU.
        dtype: What the graphs compute in: ``fp32``, ``fp16`` or ``int8``.
        notice: Always empty.
    """

    device: Cpu
    dtype: str
    notice: str = ""


class EncodedArrays(NamedTuple):
    """See :class:`~clippy_core.model.engine.Encoded`."""

    pooled_BD: np.ndarray
    patches_BPD: np.ndarray
    grid: tuple[int, int]


class Towers(Protocol):
    """Where the graphs come from.

    Attributes:
        config: The model.
        stride: Pixels per grid cell.
        logit_scale: Factor on cosines, at most 100.
        precision: What the graphs compute in.
        identity: Hash of the files that decide what they compute.
    """

    config: ModelConfig
    stride: int
    logit_scale: float
    precision: str
    identity: str

    def tokenizer(self) -> Tokenizer:
        """The tokenizer."""
        ...

    def vision(self) -> Callable[[np.ndarray], list[np.ndarray]]:
        """From pixels (B, 3, H, W) to patches (B, h, w, D) and pooled (B, D)."""
        ...

    def text(self) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
        """From token numbers and mask (B, L) to embeddings (B, D)."""
        ...


class OnnxEngine:
    """A model on ONNX Runtime; see :class:`~clippy_core.model.engine.Engine`.

    The graph for pictures is opened at once, tokenizer and graph for texts when the first word is embedded: words that
    were seen before need neither.

    Args:
        towers: The graphs.
    """

    words_apart = True

    def __init__(self, towers: Towers) -> None:
        from onnxruntime import __version__ as runtime_version

        self._towers = towers
        self.config, self.stride, self.logit_scale = towers.config, towers.stride, towers.logit_scale
        self.placement = OnnxPlacement(Cpu(), towers.precision)
        self.identity: str | None = f"{towers.identity} onnxruntime {runtime_version} {towers.precision}"
        self._vision = towers.vision()

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer."""
        return self._tokenizer

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        return self._towers.tokenizer()

    @cached_property
    def _text(self) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
        return self._towers.text()

    def computing(self) -> AbstractContextManager[object]:
        """Nothing has to be arranged."""
        return nullcontext()

    def encode_image(self, pixels_B3HW: np.ndarray) -> EncodedArrays:
        """Embed normalised pictures."""
        patches_BhwD, pooled_BD = self._vision(pixels_B3HW)
        batch, h, w, _ = patches_BhwD.shape
        return EncodedArrays(pooled_BD, patches_BhwD.reshape(batch, h * w, -1), (h, w))

    def embed_words(self, words: list[str], templates: tuple[str, ...]) -> np.ndarray:
        """One unit vector a word, shape (K, D).

        Every word has passes of its own, one for each length that its texts have: so its vector does not depend, not
        even in the last bit, on which words are asked for together, and may be kept.
        """
        return np.stack([self._embed_word(fill(templates, [word])) for word in words])

    def _embed_word(self, texts: list[str]) -> np.ndarray:
        ids_BL, mask_BL = self.tokenizer(texts)
        length_B = mask_BL.sum(1)
        vectors_BD: Any = None
        for length in np.unique(length_B):
            rows = np.flatnonzero(length_B == length)
            part_BD = self._text(ids_BL[rows, :length], mask_BL[rows, :length])
            if vectors_BD is None:
                vectors_BD = np.empty((len(texts), part_BD.shape[1]), np.float32)
            vectors_BD[rows] = part_BD
        return _unit(vectors_BD.mean(0))

    def array(self, values: np.ndarray) -> np.ndarray:
        """Numbers as they are."""
        return values


def session_options() -> Any:
    """How ONNX Runtime is to run a graph.

    As many threads as the process may use cores, or ``OMP_NUM_THREADS`` as for torch. Threads that wait do not spin: on
    a busy machine that costs far more than it gains. Pictures have any size, so no plan of memory is kept per size.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = _threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.enable_mem_pattern = False
    options.log_severity_level = 3
    return options


def _threads() -> int:
    given = os.environ.get("OMP_NUM_THREADS", "")
    if given.isdecimal() and int(given) > 0:
        return int(given)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _unit(vector_D: np.ndarray) -> np.ndarray:
    return vector_D / max(float(np.linalg.norm(vector_D)), 1e-12)
