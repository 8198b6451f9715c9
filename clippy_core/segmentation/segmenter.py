"""Words and a picture in, a label for every pixel out.

Shapes: B picture, P = h·w location, D embedding, K prompt word, L token, H/W pixel.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from clippy_core.errors import UsageError
from clippy_core.images import Picture, to_picture
from clippy_core.kernels import label_map, patch_logits, softmax_label_map
from clippy_core.kernels.logits import is_torch
from clippy_core.model.config import ModelConfig
from clippy_core.model.engine import Array, Encoded, Engine
from clippy_core.model.preprocess import to_input, working_size
from clippy_core.model.tokenizer import Tokenizer
from clippy_core.prompts import Label, parse_labels
from clippy_core.segmentation.background import BACKGROUND
from clippy_core.segmentation.clock import Clock
from clippy_core.segmentation.options import SegmentOptions
from clippy_core.segmentation.result import Segmentation
from clippy_core.segmentation.windows import window_features

if TYPE_CHECKING:
    from clippy_core.model.device import Placement
    from clippy_core.model.dual_encoder import DualEncoder
    from clippy_core.model.weights import LoadedModel


@dataclass(frozen=True)
class LabelEmbeddings:
    """Labels as the model sees them.

    Attributes:
        names: The labels' names.
        words_KD: One unit vector a word, ``float32``, on the model's device; words of one label are neighbours.
        label_of_word: Index into ``names`` for each word, non-decreasing.
    """

    names: tuple[str, ...]
    words_KD: Array
    label_of_word: tuple[int, ...]


def load(
    model: str | os.PathLike[str] = "clippy-lite",
    *,
    checkpoint: str | os.PathLike[str] | None = None,
    device: str = "auto",
    precision: str = "auto",
    runtime: str = "auto",
) -> "Segmenter":
    """A model by name or directory, ready to segment.

    Args:
        model: A name that ``clippy models`` lists, a model directory, or a folder that ``clippy export onnx`` wrote.
        checkpoint: Weights to use instead of the model's own; see ``clippy_core.model.convert`` for what is read.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        precision: ``auto``, ``fp32``, ``bf16`` or ``fp16``.
        runtime: ``torch``; ``onnx``, which imports no torch and computes on the CPU; or ``auto``, whichever starts
            sooner, see :func:`~clippy_core.model.runtime.open_engine`. It decides whether features and embeddings are
            torch tensors or numpy arrays; segmentations are the same objects.

    Raises:
        UsageError: An unknown name; the message offers near ones.
        DataError: The path does not exist, or the weights are missing or damaged.
        DeviceError: The device or the runtime cannot be used.
    """
    from clippy_core.model.runtime import open_engine

    engine = open_engine(model, checkpoint=checkpoint, device=device, precision=precision, runtime=runtime)
    return Segmenter.of(engine)


class Segmenter:
    """A model with its tokenizer on a device.

    Args:
        loaded: The model and its tokenizer.
        placement: Device and precision.
        prepare: Bring the model to the device and its convolutions into the fastest memory layout. Off for a model in
            training, which is where it should be and whose memory must not be rearranged under the optimiser.

    Attributes:
        engine: What computes the embeddings.
    """

    engine: Engine

    def __init__(self, loaded: "LoadedModel", placement: "Placement", *, prepare: bool = True) -> None:
        from clippy_core.model.torch_engine import TorchEngine

        self._begin(TorchEngine(loaded, placement, prepare=prepare))

    @classmethod
    def of(cls, engine: Engine) -> "Segmenter":
        """A segmenter that an engine computes for."""
        segmenter = cls.__new__(cls)
        segmenter._begin(engine)
        return segmenter

    def _begin(self, engine: Engine) -> None:
        self.engine = engine
        self._embedded: dict[tuple[Any, ...], LabelEmbeddings] = {}

    @property
    def config(self) -> ModelConfig:
        """What the model is."""
        return self.engine.config

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer."""
        return self.engine.tokenizer

    @property
    def placement(self) -> "Placement":
        """Where and how it computes; ``placement.notice`` is something to tell the user once."""
        return self.engine.placement

    @property
    def model(self) -> "DualEncoder":
        """The dual encoder.

        Raises:
            UsageError: This segmenter runs on ONNX Runtime, which has none.
        """
        model = getattr(self.engine, "model", None)
        if model is None:
            raise UsageError(
                f"{self.config.name!r} runs on ONNX Runtime, and this needs the model in torch; load it with "
                "runtime='torch'"
            )
        return model

    def segment(
        self,
        image: Any,
        labels: str | Iterable[str | Label],
        options: SegmentOptions | None = None,
        *,
        images_ahead: int = 1,
        **changes: Any,
    ) -> Segmentation:
        """Give every pixel of a picture the label it resembles most.

        Args:
            image: A path, bytes, a binary stream, a PIL image, or an RGB array (see ``clippy_core.images.to_picture``).
            labels: ``["dog|puppy", "grass"]`` or ``"dog|puppy,grass"``.
            options: How; the default takes the model's own choices.
            images_ahead: About how many pictures will follow, which decides whether the fastest kernel pays for its
                start-up time.
            **changes: Fields of :class:`SegmentOptions` that differ from ``options``, such as ``size=448``.

        Raises:
            ImageError: The picture cannot be used.
            UsageError: The labels or options cannot be used.
        """
        try:
            options = replace(options or SegmentOptions(), **changes)
        except TypeError as error:
            raise UsageError(f"segment(): {error}") from error
        parsed = parse_labels(labels)
        clock = Clock()
        with clock("decode"):
            picture = to_picture(image, max_pixels=options.max_pixels)
        with clock("text"):
            embeddings = self.embed_labels(parsed, options)
        with clock("encode"):
            features_PD, grid = self.encode(picture.pixels_HW3, options)
        return self.finish(
            picture,
            features_PD,
            grid,
            embeddings,
            options,
            images_ahead=images_ahead,
            source=_source(image),
            clock=clock,
        )

    def finish(
        self,
        picture: Picture,
        features_PD: Array,
        grid: tuple[int, int],
        embeddings: LabelEmbeddings,
        options: SegmentOptions,
        *,
        images_ahead: int = 1,
        source: str = "image",
        clock: Clock | None = None,
    ) -> Segmentation:
        """The segmentation of a picture whose locations were embedded: the last step of :meth:`segment`.

        Args:
            picture: The picture, as read.
            features_PD: Its features, from :meth:`encode` or a row of :meth:`encode_batch`.
            grid: Their grid (h, w).
            embeddings: The labels', from :meth:`embed_labels` with the same options.
            options: How.
            images_ahead: See :meth:`segment`.
            source: Where the picture came from, for the outputs.
            clock: The steps so far; ``label`` is added.
        """
        clock = clock or Clock()
        with clock("label"):
            logits_hwK = patch_logits(features_PD, embeddings.words_KD, grid)
            labelled = self._label(logits_hwK, picture.size, embeddings, options, images_ahead, picture.pixels_HW3)
            score_grid_hwK = _label_grid(logits_hwK, embeddings) if options.score_map else None
            scores = _label_scores(logits_hwK, embeddings)
        names = embeddings.names
        if options.rule.by_certainty:
            # Nothing in the picture is compared with this background, so it has no cosine of its own.
            names, scores = (BACKGROUND, *names), np.concatenate([np.full(1, np.nan, np.float32), scores])
        return Segmentation(
            picture=replace(picture, notes=(*picture.notes, *labelled.notes)),
            label_map=labelled.label_map_HW,
            labels=names,
            scores=scores,
            score_map=labelled.score_map_HW,
            has_background=options.rule.kind != "none",
            model=self.config.name,
            source=source,
            kernel=labelled.kernel,
            seconds=clock.seconds,
            score_grid=score_grid_hwK,
        )

    def embed_labels(self, labels: Iterable[Label], options: SegmentOptions | None = None) -> LabelEmbeddings:
        """Embed every word of every label in every template; kept, so that the next picture pays nothing."""
        options = options or SegmentOptions()
        labels = tuple(labels)
        if options.rule.kind != "none" and any(label.name.casefold() == BACKGROUND for label in labels):
            raise UsageError(f"label {BACKGROUND!r} is what the background rule calls label 0; give it another name")
        if options.rule.label is not None:
            labels = (options.rule.label, *labels)
            parse_labels(labels)  # refuses a word that is both a label and background
        templates = options.templates or self.config.templates
        key = (labels, templates)
        if key not in self._embedded:
            words = [word for label in labels for word in label.words]
            self._embedded = {
                key: LabelEmbeddings(
                    tuple(label.name for label in labels),
                    self.embed_words(words, templates),
                    tuple(index for index, label in enumerate(labels) for _ in label.words),
                )
            }
        return self._embedded[key]

    def embed_words(self, words: list[str], templates: tuple[str, ...]) -> Array:
        """One unit vector a word, shape (K, D): the mean over templates of the texts' embeddings.

        Those of a model that was loaded by :func:`load` are also kept in the user's cache, see
        :mod:`~clippy_core.model.embedding_cache`.
        """
        engine = self.engine
        if engine.identity is None:
            return engine.embed_words(words, templates)
        from clippy_core.model import embedding_cache

        words_KD = embedding_cache.embed_words(
            words,
            templates,
            lambda some: _array(engine.embed_words(some, templates)),
            identity=engine.identity,
            apart=engine.words_apart,
        )
        return engine.array(words_KD)

    def encode(self, pixels_HW3: np.ndarray, options: SegmentOptions | None = None) -> tuple[Array, tuple[int, int]]:
        """Features of a picture's locations: (P, D) ``float32`` on the model's device, unit length unless averaged
        over windows, and the grid (h, w).
        """
        options = options or SegmentOptions()
        cell = self.engine.stride
        size = working_size(pixels_HW3.shape[:2], options.size or self.config.vision.size, cell)
        pixels_3HW = to_input(pixels_HW3, size, self.config.vision)
        if options.windows is None:
            found = self.engine.encode_image(pixels_3HW[None])
            return found.patches_BPD[0], found.grid
        windows = options.windows.aligned(cell)
        with self.engine.computing():
            return window_features(pixels_3HW, windows, cell, lambda crops: self.engine.encode_image(crops).patches_BPD)

    def encode_batch(self, pictures: Sequence[np.ndarray], options: SegmentOptions | None = None) -> Encoded:
        """Embed pictures of one size (``uint8`` RGB, H×W×3) in one pass, whole, whatever the options say of windows."""
        options = options or SegmentOptions()
        size = working_size(pictures[0].shape[:2], options.size or self.config.vision.size, self.engine.stride)
        return self.engine.encode_image(np.stack([to_input(pixels, size, self.config.vision) for pixels in pictures]))

    def label(
        self,
        features_PD: Array,
        grid: tuple[int, int],
        size: tuple[int, int],
        embeddings: LabelEmbeddings,
        options: SegmentOptions | None = None,
        *,
        images_ahead: int = 1,
    ) -> np.ndarray:
        """The label map of ``size`` (H, W) for features that :meth:`encode` gave, as :meth:`segment` makes it.

        Without a picture there is nothing that borders could follow, so ``options.refine`` has no effect here.
        """
        logits_hwK = patch_logits(features_PD, embeddings.words_KD, grid)
        return self._label(logits_hwK, size, embeddings, options or SegmentOptions(), images_ahead).label_map_HW

    def _label(
        self,
        logits_hwK: Array,
        size: tuple[int, int],
        embeddings: LabelEmbeddings,
        options: SegmentOptions,
        images_ahead: int,
        pixels_HW3: np.ndarray | None = None,
    ) -> "_Labelled":
        """The label map with the background rule applied, and what belongs to it."""
        rule, groups = options.rule, embeddings.label_of_word
        count = len(embeddings.names)
        found = label_map(
            logits_hwK,
            size,
            groups=groups if len(groups) > len(embeddings.names) else None,
            scores=options.score_map or rule.kind == "threshold",
            margins=rule.kind == "margin",
            images_ahead=images_ahead,
        )
        labels_HW, note = _array(found.labels_HW), ""
        if options.refine != "none" and pixels_HW3 is not None:
            labels_HW, note = _refined(labels_HW, _array(logits_hwK), pixels_HW3, groups)
        if rule.by_certainty:
            certainty_HW = {"threshold": found.scores_HW, "margin": found.margins_HW}.get(rule.kind)
            if rule.kind == "softmax":
                certainty_HW = softmax_label_map(
                    logits_hwK, size, scale=self.engine.logit_scale, groups=groups
                ).scores_HW
            labels_HW = np.where(_array(certainty_HW) < rule.value, 0, labels_HW + 1)
            count += 1
        label_map_HW = labels_HW.astype(np.uint8 if count <= 255 else np.uint16)
        score_map_HW = _array(found.scores_HW) if options.score_map else None
        kernel = f"{found.implementation} ({found.reason})"
        return _Labelled(label_map_HW, score_map_HW, kernel, (note,) if note else ())


class _Labelled(NamedTuple):
    """A label map, the winner's cosine if it was asked for, the kernel used, and what was decided for the user."""

    label_map_HW: np.ndarray
    score_map_HW: np.ndarray | None
    kernel: str
    notes: tuple[str, ...]


def _source(image: Any) -> str:
    """What outputs call a picture: its path, a stream's own name, or just that it is an image."""
    name = image if isinstance(image, (str, os.PathLike)) else getattr(image, "name", None)
    return str(name) if isinstance(name, (str, os.PathLike)) else "image"


def _label_grid(logits_hwK: Array, embeddings: LabelEmbeddings) -> np.ndarray:
    """The cosine of every location with the best word of each label."""
    first_word = np.flatnonzero(np.diff(embeddings.label_of_word, prepend=-1))
    return np.maximum.reduceat(_array(logits_hwK), first_word, axis=2)


def _refined(
    labels_HW: np.ndarray, logits_hwK: np.ndarray, pixels_HW3: np.ndarray, groups: tuple[int, ...]
) -> tuple[np.ndarray, str]:
    """The label map anew from likelihoods that follow the picture, among the labels that it has; or why not."""
    from clippy_core.segmentation.refine import MOST_CANDIDATES, refine

    candidates_C = np.flatnonzero(np.bincount(labels_HW.ravel()))
    if len(candidates_C) > MOST_CANDIDATES:
        found = f"{len(candidates_C):,} labels were found in this picture"
        return labels_HW, f"borders were not refined: {found}; accepted: up to {MOST_CANDIDATES}"
    if len(candidates_C) == 1:
        return labels_HW, ""
    likely_yxC = refine(logits_hwK, pixels_HW3, candidates_C, groups)
    return candidates_C[label_map(likely_yxC, labels_HW.shape[:2]).labels_HW], ""


def _label_scores(logits_hwK: Array, embeddings: LabelEmbeddings) -> np.ndarray:
    """The highest cosine of any location with any word of each label."""
    best_K = _array(logits_hwK.amax((0, 1)) if is_torch(logits_hwK) else logits_hwK.max((0, 1)))
    first_word = np.flatnonzero(np.diff(embeddings.label_of_word, prepend=-1))
    return np.maximum.reduceat(best_K, first_word)


def _array(values: Any) -> np.ndarray:
    return values.cpu().numpy() if is_torch(values) else values
