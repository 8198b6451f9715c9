"""The gate: every exported file is run under ONNX Runtime on inputs it has never seen, and compared with PyTorch.

Shapes: B picture or text, H/W pixel, h/w grid, D embedding, K label, L token.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clippy_core.kernels import label_map
from clippy_core.model.preprocess import to_input
from clippy_core.model.text import unit
from clippy_core.model.weights import LoadedModel
from clippy_core.shapes import CLASSES, MAX_SIZE, MIN_SIZE, scene

Runner = Callable[[dict[str, np.ndarray]], list[np.ndarray]]

LABEL_COUNTS = (1, 2, 21, 1000)
"""How many labels the segmenter is asked about, one count after the other."""
LENGTH = 0.01
"""How far the mean length of vectors may be from that of PyTorch's, in every precision."""
WORDS = 12
"""Labels of which the agreement is measured; between hundreds, near ties would say little about a file."""


@dataclass(frozen=True)
class Tolerance:
    """What a file of some precision may differ by; None where that is not judged.

    Attributes:
        max_abs: Largest difference of any number; vectors and cosines are at most 1.
        min_cosine: Least cosine between a vector of the file and PyTorch's.
        mean_cosine: Least mean of these cosines.
        agreement: Least share of pixels of generated pictures with the same label.
    """

    max_abs: float | None
    min_cosine: float | None
    mean_cosine: float
    agreement: float


TOLERANCES = {
    "fp32": Tolerance(1e-4, 0.99999, 0.99999, 0.999),
    "fp16": Tolerance(None, 0.9, 0.999, 0.95),
    "int8": Tolerance(None, None, 0.9, 0.5),
}
"""Of 8-bit integers only means are judged: a single location may be anything where activations are cut off."""


@dataclass
class Figures:
    """How far one file is from PyTorch, over all inputs it was given.

    Attributes:
        inputs: Batches compared.
        max_abs: Largest difference.
        cosines: Of each vector with PyTorch's.
        agreements: Share of equal labels in each picture.
    """

    inputs: int = 0
    max_abs: float | None = None
    cosines: list[np.ndarray] = field(default_factory=list)
    agreements: list[float] = field(default_factory=list)

    def add(self, expected: np.ndarray, found: np.ndarray, *, vectors: bool) -> None:
        """Take one output into account; ``vectors`` if the last axis is an embedding."""
        if expected.shape != found.shape or not np.isfinite(found).all():
            self.max_abs = float("inf")
            return
        self.max_abs = max(self.max_abs or 0.0, float(np.abs(expected - found).max()))
        if vectors:
            wanted, lengths = (np.linalg.norm(output, axis=-1) for output in (expected, found))
            self.cosines.append(((expected * found).sum(-1) / lengths.clip(min=1e-12)).ravel())
            # A cosine says nothing about lengths, and a single location may be zero where rounding decides.
            if abs(wanted.mean() - lengths.mean()) > LENGTH:
                self.max_abs = float("inf")

    def to_dict(self) -> dict[str, float]:
        """The figures by name, without those that were not measured."""
        document: dict[str, float] = {"inputs": self.inputs}
        if self.max_abs is not None:
            document["max_abs"] = self.max_abs
        if self.cosines:
            cosines = np.concatenate(self.cosines)
            document |= {"min_cosine": float(cosines.min()), "mean_cosine": float(cosines.mean())}
        if self.agreements:
            document["agreement"] = float(np.mean(self.agreements))
        return document

    def failure(self, tolerance: Tolerance) -> str | None:
        """The first figure that is out of bounds, in words; None if none is."""
        if self.max_abs == float("inf"):
            return "its output is not finite, or of another shape or length"
        for name, value in self.to_dict().items():
            limit = getattr(tolerance, name, None)
            if limit is not None and not (value <= limit if name == "max_abs" else value >= limit):
                return f"{name} is {value:.4g}, tolerance {limit:g}"
        return None

    def judge(self, tolerance: Tolerance) -> tuple[dict[str, Any], str | None]:
        """The figures with the bounds that they were held against, and what failed in words."""
        document = self.to_dict()
        bounds = {name: value for name, value in asdict(tolerance).items() if name in document and value is not None}
        return document | {"tolerance": bounds}, self.failure(tolerance)


class CannotRunError(Exception):
    """An ONNX file that is not valid, or that ONNX Runtime cannot load or run; one line of its reason."""


def check(part: str, path: Path, loaded: LoadedModel, seed: int) -> Figures:
    """Look through an ONNX file with ``onnx.checker``, and compare it with PyTorch; see :func:`compare`.

    Raises:
        CannotRunError: The file is not valid or does not run.
    """
    import onnx

    try:
        onnx.checker.check_model(str(path), full_check=True)
        session = open_session(path)
    except Exception as error:
        # Both libraries raise kinds of their own without a common base.
        raise CannotRunError(_first_line(error)) from error

    def run(inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        try:
            return session.run(None, inputs)
        except Exception as error:
            raise CannotRunError(_first_line(error)) from error

    return compare(part, run, loaded, seed)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


@torch.inference_mode()
def compare(part: str, run: Runner, loaded: LoadedModel, seed: int) -> Figures:
    """Compare anything that computes a part of a model with the model.

    Args:
        part: Which; see ``clippy_core.export.options.PARTS``.
        run: Inputs by name → outputs in order.
        loaded: The model.
        seed: Of the inputs.
    """
    checks = {"vision": _check_vision, "text": _check_text, "segmenter": _check_segmenter, "labelmap": _check_label_map}
    figures = Figures()
    checks[part](run, loaded, np.random.default_rng(seed), figures)
    return figures


def open_session(path: Path) -> Any:
    """ONNX Runtime on the CPU, without its remarks."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def pictures(loaded: LoadedModel, rng: np.random.Generator) -> Iterator[tuple[np.ndarray, bool]]:
    """Batches of normalised input (B, 3, H, W) in sizes that no export saw: generated pictures (True), and noise."""
    vision, cell = loaded.model.config.vision, loaded.model.vision.stride
    own = max(2, round(vision.size / cell))
    odd = [int(number) for number in rng.integers(2, own + 1, 2)]
    for batch, (rows, columns) in ((1, (own, own * 4 // 3)), (3, (odd[0], odd[1])), (2, (own + 1, own)), (1, (2, 2))):
        size = rows * cell, columns * cell
        side = min(max(*size, MIN_SIZE), MAX_SIZE)
        numbers = rng.integers(1 << 30, size=batch)
        drawn = [scene(int(number), seed=int(numbers[0]), size=side).pixels_HW3 for number in numbers]
        yield np.stack([to_input(pixels_HW3, size, vision) for pixels_HW3 in drawn]), True
        if batch > 1:
            yield rng.standard_normal((batch, 3, *size)).astype(np.float32), False


def _check_vision(run: Runner, loaded: LoadedModel, rng: np.random.Generator, figures: Figures) -> None:
    for pixels_B3HW, _ in pictures(loaded, rng):
        expected = loaded.model.encode_image(torch.from_numpy(pixels_B3HW))
        patches_BhwD, pooled_BD = run({"pixels": pixels_B3HW})
        figures.inputs += 1
        figures.add(expected.patches_BPD.unflatten(1, expected.grid).numpy(), patches_BhwD, vectors=True)
        figures.add(expected.pooled_BD.numpy(), pooled_BD, vectors=True)


def _check_text(run: Runner, loaded: LoadedModel, rng: np.random.Generator, figures: Figures) -> None:
    words = list(rng.permutation(CLASSES))
    texts = [words[:1], [template.replace("{}", word) for word in words for template in loaded.model.config.templates]]
    batches = [loaded.tokenizer([str(text) for text in batch]) for batch in texts]
    for batch in (1, 5):
        length = int(rng.integers(1, loaded.model.config.text.max_tokens + 1))
        ids_BL = rng.integers(0, loaded.tokenizer.size, (batch, length))
        mask_BL = (np.arange(length) < rng.integers(1, length + 1, (batch, 1))).astype(np.int64)
        batches.append((ids_BL, mask_BL))
    for ids_BL, mask_BL in batches:
        expected_BD = loaded.model.encode_text(torch.from_numpy(ids_BL), torch.from_numpy(mask_BL)).numpy()
        figures.inputs += 1
        figures.add(expected_BD, run({"ids": ids_BL, "mask": mask_BL})[0], vectors=True)


def _check_segmenter(run: Runner, loaded: LoadedModel, rng: np.random.Generator, figures: Figures) -> None:
    for count, (pixels_B3HW, drawn) in zip(_cycle(LABEL_COUNTS), pictures(loaded, rng), strict=False):
        labels_KD = _labels(count, loaded, rng)
        expected = _logits(loaded, pixels_B3HW, labels_KD)
        found = run({"pixels": pixels_B3HW, "labels": labels_KD})[0]
        figures.inputs += 1
        figures.add(expected, found, vectors=False)
        if drawn and found.shape == expected.shape:
            words_KD = _labels(WORDS, loaded, rng)
            found = run({"pixels": pixels_B3HW, "labels": words_KD})[0]
            size = pixels_B3HW.shape[-2] + 5, pixels_B3HW.shape[-1] + 3
            expected_BHW = _maps(_logits(loaded, pixels_B3HW, words_KD), size)
            figures.agreements.append(_agreement(expected_BHW, _maps(found, size)))


def _check_label_map(run: Runner, loaded: LoadedModel, rng: np.random.Generator, figures: Figures) -> None:
    for pixels_B3HW, drawn in pictures(loaded, rng):
        labels_KD = _labels(WORDS if drawn else 1, loaded, rng)
        size = int(rng.integers(1, 300)), int(rng.integers(1, 300))
        found = run({"pixels": pixels_B3HW, "labels": labels_KD, "size": np.array(size)})[0]
        figures.inputs += 1
        figures.agreements.append(_agreement(_maps(_logits(loaded, pixels_B3HW, labels_KD), size), found))


def _cycle(values: tuple[int, ...]) -> Iterator[int]:
    while True:
        yield from values


def _labels(count: int, loaded: LoadedModel, rng: np.random.Generator) -> np.ndarray:
    """Embeddings of words there are pictures of, and between them as many as asked for."""
    ids_BL, mask_BL = loaded.tokenizer(list(CLASSES))
    words_CD = loaded.model.encode_text(torch.from_numpy(ids_BL), torch.from_numpy(mask_BL))
    if count <= len(CLASSES):
        return words_CD[torch.from_numpy(rng.permutation(len(CLASSES))[:count])].numpy()
    mixed_KC = rng.dirichlet(np.full(len(CLASSES), 0.2), count).astype(np.float32)
    return unit(torch.from_numpy(mixed_KC) @ words_CD).numpy()


def _logits(loaded: LoadedModel, pixels_B3HW: np.ndarray, labels_KD: np.ndarray) -> np.ndarray:
    embedding = loaded.model.encode_image(torch.from_numpy(pixels_B3HW))
    return (embedding.patches_BPD.unflatten(1, embedding.grid) @ unit(torch.from_numpy(labels_KD)).T).numpy()


def _maps(logits_BhwK: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    maps = [label_map(np.ascontiguousarray(logits_hwK), size).labels_HW for logits_hwK in logits_BhwK]
    return np.stack([np.asarray(labels_HW) for labels_HW in maps])


def _agreement(expected_BHW: np.ndarray, found_BHW: np.ndarray) -> float:
    return float((expected_BHW == found_BHW).mean()) if expected_BHW.shape == found_BHW.shape else 0.0
