"""What the model says of a picture: a class for every pixel, and segments without classes.

Labels × height × width is never built: the label map takes the cosines of the grid; see ``clippy_core.kernels``.

Shapes: P = h·w location, D embedding, K word, H/W pixel.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from clippy_core.evaluation.dense.cache import FeatureCache, hash_model
from clippy_core.evaluation.dense.geometry import Sample
from clippy_core.evaluation.dense.words import embed, vocabulary
from clippy_core.evaluation.vocabulary.templates import SETS
from clippy_core.kernels import label_map, patch_logits, softmax_label_map
from clippy_core.segmentation.grouping import group, upsample_groups
from clippy_core.segmentation.options import SegmentOptions

if TYPE_CHECKING:
    from torch import Tensor

    from clippy_core.evaluation.dense.dataset import DenseDataset
    from clippy_core.evaluation.options import GroupingOptions
    from clippy_core.evaluation.protocols import Protocol as Choices
    from clippy_core.segmentation.segmenter import Segmenter


@dataclass(frozen=True, eq=False)
class Prediction:
    """What was said of a picture, at the sample's size.

    Attributes:
        labels_HW: The class of every pixel, whole numbers; what is no class of the data set counts as none.
        certainty_HW: How sure the winner is, ``float32``; None where no limit asks for it.
        segments_HW: Number of the segment of every pixel, from 0; None where nobody asks for it.
    """

    labels_HW: np.ndarray | None = None
    certainty_HW: np.ndarray | None = None
    segments_HW: np.ndarray | None = None


class Predictor(Protocol):
    """Something that can be measured.

    Attributes:
        identity: What tells it from others, for the state of unfinished runs; equal ones say the same of a picture.
    """

    @property
    def identity(self) -> str: ...  # noqa: D102 - described above

    def describe(self) -> dict[str, Any]:
        """What it is and what it asks for, for reports."""
        ...

    def __call__(self, sample: Sample, *, labels: bool, certainty: str | None, segments: bool) -> Prediction:
        """Look at a picture.

        Args:
            sample: The picture; what it shows is not to be looked up in it.
            labels: Whether classes are asked for.
            certainty: What is to be known of the winner: ``threshold`` (its cosine), ``margin``, ``softmax``, or None.
            segments: Whether segments are asked for.
        """
        ...


class ModelPredictor:
    """A model under a protocol.

    Args:
        segmenter: The model.
        dataset: What its classes are.
        protocol: How it is asked.
        grouping: How it groups.
        pictures: How many pictures are to come.
        cache: Where features are kept; None to keep none.
    """

    def __init__(
        self,
        segmenter: "Segmenter",
        dataset: "DenseDataset",
        protocol: "Choices",
        grouping: "GroupingOptions",
        *,
        pictures: int = 1,
        cache: FeatureCache | None = None,
    ) -> None:
        self.segmenter = segmenter
        self.dataset = dataset
        self.protocol = protocol
        self.grouping = grouping
        self.pictures = pictures
        self.cache = cache
        self.side = protocol.side(dataset.name) or segmenter.config.vision.size
        self.templates = protocol.templates or segmenter.config.templates
        self.vocabulary = vocabulary(dataset, protocol)
        own = float(segmenter.model.logit_scale.detach().exp().clamp(max=100.0))
        self.scale = protocol.softmax_scale(dataset.name) or own

    @property
    def identity(self) -> str:
        """SHA-256 of the model, and what it computes with."""
        return self._identity

    @cached_property
    def _identity(self) -> str:
        placement = self.segmenter.placement
        return f"{hash_model(self.segmenter)} {placement.device.type} {placement.dtype}"

    def embed_words(self) -> "Tensor":
        """Embeddings of the words, ``float32`` (K, D), from the cache if they are there; made once."""
        return self._words_KD

    @cached_property
    def _words_KD(self) -> "Tensor":
        def compute() -> dict[str, np.ndarray]:
            return {"words_KD": embed(self.segmenter, self.vocabulary.words, self.templates).cpu().numpy()}

        return self._tensor(self._kept(["words", self.vocabulary.words, self.templates], compute)["words_KD"])

    def describe(self) -> dict[str, Any]:
        """What the model is and what it is asked for."""
        segmenter, known = self.segmenter, {prompts: name for name, prompts in SETS.items()}
        return {
            "model": segmenter.config.name,
            "pool": segmenter.config.vision.pool,
            "precision": str(segmenter.placement.dtype).removeprefix("torch."),
            "device": segmenter.placement.device.type,
            "size": self.side,
            "templates": known.get(self.templates, self.templates),
            "scale": round(self.scale, 6),
            "words": self.vocabulary.by_class(self.dataset.classes),
            "words left out": list(self.vocabulary.left_out),
        }

    def __call__(self, sample: Sample, *, labels: bool, certainty: str | None, segments: bool) -> Prediction:
        """Look at a picture; see :class:`Predictor`."""
        features_PD, grid = self.features(sample)
        labels_HW = certainty_HW = segments_HW = None
        if labels:
            labels_HW, certainty_HW = self._label(features_PD, grid, sample.size, certainty)
        if segments:
            groups_P = group(features_PD, self.grouping.method, self.grouping.groups, self.grouping.seed)
            segments_HW = upsample_groups(groups_P.cpu().numpy(), grid, sample.size)
        return Prediction(labels_HW, certainty_HW, segments_HW)

    def features(self, sample: Sample) -> "tuple[Tensor, tuple[int, int]]":
        """Features of the picture's locations, (P, D), and their grid (h, w); from the cache if they are there."""

        def compute() -> dict[str, np.ndarray]:
            options = SegmentOptions(size=self.side, windows=self.protocol.windows)
            features_PD, grid = self.segmenter.encode(sample.pixels_HW3, options)
            return {"features_PD": features_PD.float().cpu().numpy(), "grid": np.array(grid)}

        if self.cache is None:
            options = SegmentOptions(size=self.side, windows=self.protocol.windows)
            return self.segmenter.encode(sample.pixels_HW3, options)
        image = sample.example.image
        about = image.stat()
        # A picture that was changed since is another picture.
        key = [str(image.absolute()), about.st_size, about.st_mtime_ns, self.side, self.protocol.picture]
        kept = self._kept(["features", *key, str(self.protocol.windows)], compute)
        return self._tensor(kept["features_PD"]), (int(kept["grid"][0]), int(kept["grid"][1]))

    def _kept(self, key: list[Any], compute: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        if self.cache is None:
            return compute()
        return self.cache.get([self.identity, *key], compute)

    def _tensor(self, array: np.ndarray) -> "Tensor":
        import torch

        return torch.from_numpy(array).to(self.segmenter.placement.device)

    def _label(
        self, features_PD: "Tensor", grid: tuple[int, int], size: tuple[int, int], certainty: str | None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Classes H×W and, if asked for, how sure they are."""
        logits_hwK = patch_logits(features_PD, self.embed_words(), grid)
        groups = self.vocabulary.class_of_word
        if certainty == "softmax":
            found = softmax_label_map(logits_hwK, size, scale=self.scale, groups=groups)
            return _array(found.labels_HW), _array(found.scores_HW)
        found = label_map(
            logits_hwK,
            size,
            groups=groups,
            scores=certainty == "threshold",
            margins=certainty == "margin",
            images_ahead=self.pictures,
        )
        sure_HW = found.scores_HW if certainty == "threshold" else found.margins_HW
        return _array(found.labels_HW), None if certainty is None else _array(sure_HW)


def _array(values: Any) -> np.ndarray:
    return values if isinstance(values, np.ndarray) else values.cpu().numpy()
