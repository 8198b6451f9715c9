"""Words and a picture in, a label for every pixel out.

Shapes: B picture, P = h·w location, D embedding, K prompt word, L token, H/W pixel.
"""

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clippy_core.errors import UsageError
from clippy_core.images import Picture, to_picture
from clippy_core.kernels import label_map, patch_logits, softmax_label_map
from clippy_core.model.config import ModelConfig
from clippy_core.model.device import Placement, place
from clippy_core.model.dual_encoder import ImageEmbedding
from clippy_core.model.preprocess import to_input, working_size
from clippy_core.model.presets import find
from clippy_core.model.text import unit
from clippy_core.model.weights import LoadedModel, load_directory
from clippy_core.prompts import Label, parse_labels
from clippy_core.segmentation.background import BACKGROUND
from clippy_core.segmentation.options import SegmentOptions
from clippy_core.segmentation.result import Segmentation
from clippy_core.segmentation.windows import window_features

TEXT_BATCH = 128


@dataclass(frozen=True)
class LabelEmbeddings:
    """Labels as the model sees them.

    Attributes:
        names: The labels' names.
        words_KD: One unit vector a word, ``float32``, on the model's device; words of one label are neighbours.
        label_of_word: Index into ``names`` for each word, non-decreasing.
    """

    names: tuple[str, ...]
    words_KD: Tensor
    label_of_word: tuple[int, ...]


def load(
    model: str | os.PathLike[str] = "clippy-lite",
    *,
    checkpoint: str | os.PathLike[str] | None = None,
    device: str = "auto",
    precision: str = "auto",
) -> "Segmenter":
    """A model by name or directory, ready to segment.

    Args:
        model: A name that ``clippy models`` lists, or a model directory.
        checkpoint: Weights to use instead of the model's own; see ``clippy_core.model.convert`` for what is read.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        precision: ``auto``, ``fp32``, ``bf16`` or ``fp16``.

    Raises:
        UsageError: An unknown name; the message offers near ones.
        DataError: The path does not exist, or the weights are missing or damaged.
        DeviceError: The device cannot be used.
    """
    placement = place(device, precision)
    if checkpoint is None:
        return Segmenter(load_directory(find(model)), placement)
    from clippy_core.model.convert import load_checkpoint

    return Segmenter(load_checkpoint(model, checkpoint), placement)


class Segmenter:
    """A model with its tokenizer on a device.

    Args:
        loaded: The model and its tokenizer.
        placement: Device and precision.
        prepare: Bring the model to the device and its convolutions into the fastest memory layout. Off for a model in
            training, which is where it should be and whose memory must not be rearranged under the optimiser.

    Attributes:
        model: The dual encoder.
        tokenizer: Its tokenizer.
        placement: Where and how it computes; ``placement.notice`` is something to tell the user once.
    """

    def __init__(self, loaded: LoadedModel, placement: Placement, *, prepare: bool = True) -> None:
        self.model = loaded.model
        if prepare:
            # Convolutions on channels-last memory take about half the time on a CPU; other layers do not mind.
            self.model.to(device=placement.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.tokenizer = loaded.tokenizer
        self.placement = placement
        self._embedded: dict[tuple[Any, ...], LabelEmbeddings] = {}

    @property
    def config(self) -> ModelConfig:
        """What the model is."""
        return self.model.config

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
        source = str(image) if isinstance(image, (str, os.PathLike)) else "image"
        return self.finish(
            picture, features_PD, grid, embeddings, options, images_ahead=images_ahead, source=source, clock=clock
        )

    def finish(
        self,
        picture: Picture,
        features_PD: Tensor,
        grid: tuple[int, int],
        embeddings: LabelEmbeddings,
        options: SegmentOptions,
        *,
        images_ahead: int = 1,
        source: str = "image",
        clock: "Clock | None" = None,
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
            label_map_HW, score_map_HW, kernel = self._label(
                logits_hwK, picture.size, embeddings, options, images_ahead
            )
            scores = _label_scores(logits_hwK, embeddings)
        names = embeddings.names
        if options.rule.by_certainty:
            # Nothing in the picture is compared with this background, so it has no cosine of its own.
            names, scores = (BACKGROUND, *names), np.concatenate([np.zeros(1, np.float32), scores])
        return Segmentation(
            picture=picture,
            label_map=label_map_HW,
            labels=names,
            scores=scores,
            score_map=score_map_HW,
            has_background=options.rule.kind != "none",
            model=self.config.name,
            source=source,
            kernel=kernel,
            seconds=clock.seconds,
        )

    @torch.inference_mode()
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

    @torch.inference_mode()
    def embed_words(self, words: list[str], templates: tuple[str, ...]) -> Tensor:
        """One unit vector a word, shape (K, D): the mean over templates of the texts' embeddings."""
        texts = [template.replace("{}", word) for word in words for template in templates]
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        embedded: list[Tensor] = [torch.empty(0)] * len(texts)
        for first in range(0, len(order), TEXT_BATCH):
            batch = order[first : first + TEXT_BATCH]
            ids_BL, mask_BL = self.tokenizer([texts[index] for index in batch])
            with self.placement.autocast():
                vectors_BD = self.model.encode_text(
                    torch.from_numpy(ids_BL).to(self.placement.device),
                    torch.from_numpy(mask_BL).to(self.placement.device),
                )
            for index, vector_D in zip(batch, vectors_BD, strict=True):
                embedded[index] = vector_D
        return unit(torch.stack(embedded).view(len(words), len(templates), -1).mean(1))

    @torch.inference_mode()
    def encode(self, pixels_HW3: np.ndarray, options: SegmentOptions | None = None) -> tuple[Tensor, tuple[int, int]]:
        """Features of a picture's locations: (P, D) ``float32`` on the model's device, unit length unless averaged
        over windows, and the grid (h, w).
        """
        options = options or SegmentOptions()
        cell = self.model.vision.stride
        size = working_size(pixels_HW3.shape[:2], options.size or self.config.vision.size, cell)
        pixels_3HW = torch.from_numpy(to_input(pixels_HW3, size, self.config.vision)).to(self.placement.device)
        if options.windows is None:
            patches_BPD, grid = self._patches(pixels_3HW[None])
            return patches_BPD[0], grid
        windows = options.windows.aligned(cell)
        return window_features(pixels_3HW, windows, cell, lambda crops: self._patches(crops)[0])

    @torch.inference_mode()
    def encode_batch(self, pictures: Sequence[np.ndarray], options: SegmentOptions | None = None) -> ImageEmbedding:
        """Embed pictures of one size (``uint8`` RGB, H×W×3) in one pass, whole, whatever the options say of windows."""
        options = options or SegmentOptions()
        size = working_size(pictures[0].shape[:2], options.size or self.config.vision.size, self.model.vision.stride)
        pixels_B3HW = np.stack([to_input(pixels_HW3, size, self.config.vision) for pixels_HW3 in pictures])
        return self._embed(torch.from_numpy(pixels_B3HW).to(self.placement.device))

    def label(
        self,
        features_PD: Tensor,
        grid: tuple[int, int],
        size: tuple[int, int],
        embeddings: LabelEmbeddings,
        options: SegmentOptions | None = None,
        *,
        images_ahead: int = 1,
    ) -> np.ndarray:
        """The label map of ``size`` (H, W) for features that :meth:`encode` gave, as :meth:`segment` makes it."""
        logits_hwK = patch_logits(features_PD, embeddings.words_KD, grid)
        return self._label(logits_hwK, size, embeddings, options or SegmentOptions(), images_ahead)[0]

    def _patches(self, pixels_B3HW: Tensor) -> tuple[Tensor, tuple[int, int]]:
        embedding = self._embed(pixels_B3HW)
        return embedding.patches_BPD, embedding.grid

    def _embed(self, pixels_B3HW: Tensor) -> ImageEmbedding:
        with self.placement.autocast():
            return self.model.encode_image(pixels_B3HW)

    def _label(
        self,
        logits_hwK: Tensor,
        size: tuple[int, int],
        embeddings: LabelEmbeddings,
        options: SegmentOptions,
        images_ahead: int,
    ) -> tuple[np.ndarray, np.ndarray | None, str]:
        """The label map with the background rule applied, the winner's cosine if asked for, and the kernel used."""
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
        labels_HW = _array(found.labels_HW)
        if rule.by_certainty:
            certainty_HW = {"threshold": found.scores_HW, "margin": found.margins_HW}.get(rule.kind)
            if rule.kind == "softmax":
                scale = float(self.model.logit_scale.detach().exp().clamp(max=100.0))
                certainty_HW = softmax_label_map(logits_hwK, size, scale=scale, groups=groups).scores_HW
            labels_HW = np.where(_array(certainty_HW) < rule.value, 0, labels_HW + 1)
            count += 1
        label_map_HW = labels_HW.astype(np.uint8 if count <= 255 else np.uint16)
        score_map_HW = _array(found.scores_HW) if options.score_map else None
        return label_map_HW, score_map_HW, f"{found.implementation} ({found.reason})"


def _label_scores(logits_hwK: Tensor, embeddings: LabelEmbeddings) -> np.ndarray:
    """The highest cosine of any location with any word of each label."""
    best_K = _array(logits_hwK.amax(dim=(0, 1)))
    first_word = np.flatnonzero(np.diff(embeddings.label_of_word, prepend=-1))
    return np.maximum.reduceat(best_K, first_word)


def _array(values: Any) -> np.ndarray:
    return values.cpu().numpy() if isinstance(values, Tensor) else values


class Clock:
    """Wall time of named steps."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        """Add the time of the block to the step ``step``."""
        start = time.perf_counter()
        yield
        self.seconds[step] = self.seconds.get(step, 0.0) + time.perf_counter() - start
