"""Segments of pictures without any label, and names for them afterwards.

Shapes: P = h·w location, D embedding, G segment, K label, H/W pixel, h/w grid.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from clippy_core import events
from clippy_core.analysis.group.objects import Objects
from clippy_core.analysis.group.silhouette import choose_count, silhouette
from clippy_core.analysis.look import unit
from clippy_core.analysis.pictures import Pictures, Shown
from clippy_core.analysis.report import Report, require_extra
from clippy_core.analysis.words import Words, embed, to_array
from clippy_core.errors import UsageError
from clippy_core.evaluation.options import GROUPINGS, MAX_GROUPS
from clippy_core.prompts import Label
from clippy_core.segmentation.grouping import group as group_locations
from clippy_core.segmentation.inputs import Input
from clippy_core.segmentation.options import SegmentOptions

if TYPE_CHECKING:
    from clippy_core.segmentation.segmenter import Segmenter


@dataclass(frozen=True)
class GroupOptions:
    """How to make segments.

    Attributes:
        method: ``pca`` (the paper's: a picture's own principal components are the centres), ``kmeans`` or ``spectral``.
        segments: At most how many, 2 to 64; None for the number from 2 to 12 with the highest silhouette.
        seed: Where k-means starts from; ``pca`` has no chance in it.
        size: Short side in pixels that pictures are resized to; None for the model's own.
        names: Labels that segments are named from; none for numbers only.
        masks: A data set with objects, laid out as for ``clippy eval folder``; None for none.
    """

    method: str = "pca"
    segments: int | None = 8
    seed: int = 0
    size: int | None = None
    names: tuple[Label, ...] = ()
    masks: Path | None = None

    def __post_init__(self) -> None:
        if self.method not in GROUPINGS:
            raise UsageError(f"--method is {self.method!r}; accepted: {', '.join(GROUPINGS)}")
        if self.segments is not None and not 2 <= self.segments <= MAX_GROUPS:
            raise UsageError(f"--segments is {self.segments}; accepted: 2 to {MAX_GROUPS}, or auto")


@dataclass(frozen=True, eq=False)
class Grouped:
    """The segments of one picture, the largest first.

    Attributes:
        groups_P: Number of the segment of every location, 0…G − 1.
        grid: (h, w).
        share_G: Part of the locations in each, 0…1.
        silhouette: How well they are set apart, −1…1; NaN for a single segment.
        tried: The silhouette of each number that was tried; empty if the number was given.
        names: For each segment its nearest labels with cosines, the nearest first; empty without labels.
        overlaps_O: For each object the IoU with the segment that fits it best; empty without any.
    """

    groups_P: np.ndarray
    grid: tuple[int, int]
    share_G: np.ndarray
    silhouette: float
    tried: dict[int, float] = field(default_factory=dict)
    names: tuple[tuple[tuple[str, float], ...], ...] = ()
    overlaps_O: np.ndarray = field(default_factory=lambda: np.zeros(0))

    @property
    def labels(self) -> tuple[str, ...]:
        """What segments are called in drawings."""
        numbers = [str(number + 1) for number in range(len(self.share_G))]
        if not self.names:
            return tuple(numbers)
        return tuple(f"{number} {nearest[0][0]}" for number, nearest in zip(numbers, self.names, strict=True))


def analyse_groups(
    segmenter: "Segmenter", inputs: Sequence[Input], options: GroupOptions, out: Path, sink: events.Sink = events.ignore
) -> Report:
    """Segment pictures without labels and draw what came out; drawings are written as they are made.

    Args:
        segmenter: The model.
        inputs: The pictures.
        options: How.
        out: Folder for the drawings.
        sink: Told of every picture.

    Returns:
        The report; pictures that could not be used are in ``numbers["left out"]``.

    Raises:
        DeviceError: Matplotlib or scikit-learn is missing.
        UsageError: A data set without objects.
        DataError: No picture can be used, or the data set cannot, or it has no object on any of the pictures.
        OSError: A file cannot be written.
    """
    require_extra()
    from clippy_core.analysis.group.report import Drawing

    objects = Objects(options.masks) if options.masks is not None else None
    words = embed(segmenter, options.names) if options.names else None
    pictures = Pictures(inputs, sink)
    drawing = Drawing(segmenter.config, options, out)
    for note in objects.notes if objects else ():
        sink(events.Noticed(note))
    for shown in pictures:
        found = group_picture(segmenter, shown, options, words, objects)
        drawing.add(shown, pictures.canvas(shown), found)
    if objects is not None:
        objects.check()
    return drawing.report(pictures.failures, objects.jaccard.mean if objects else None)


def group_picture(
    segmenter: "Segmenter", shown: Shown, options: GroupOptions, words: Words | None, objects: Objects | None
) -> Grouped:
    """The segments of one picture."""
    import torch

    features_PD, grid = segmenter.encode(shown.pixels_HW3, SegmentOptions(size=options.size))
    features_PD = torch.as_tensor(features_PD)  # An exported model gives arrays.
    unit_PD = unit(to_array(features_PD))

    def grouped(count: int) -> np.ndarray:
        return group_locations(features_PD, options.method, count, options.seed).cpu().numpy()

    tried: dict[int, float] = {}
    if options.segments is None:
        groups_P, tried = choose_count(unit_PD, grouped)
    else:
        groups_P = grouped(options.segments)
    groups_P, share_G = by_size(groups_P)
    size = shown.pixels_HW3.shape[:2]
    return Grouped(
        groups_P,
        grid,
        share_G,
        silhouette(unit_PD, groups_P),
        tried,
        name_segments(unit_PD, groups_P, words) if words else (),
        objects.overlaps(shown.source, groups_P, grid, (size[0], size[1])) if objects else np.zeros(0),
    )


def by_size(groups_P: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Groups numbered anew from 0 with the largest first, and the share of locations in each."""
    numbers_G, groups_P, count_G = np.unique(groups_P, return_inverse=True, return_counts=True)
    order_G = np.argsort(-count_G, kind="stable")
    rank_G = np.empty(len(numbers_G), np.int64)
    rank_G[order_G] = np.arange(len(numbers_G))
    return rank_G[groups_P], count_G[order_G] / len(groups_P)


def name_segments(
    unit_PD: np.ndarray, groups_P: np.ndarray, words: Words, most: int = 3
) -> tuple[tuple[tuple[str, float], ...], ...]:
    """For each segment the labels nearest to the direction of its mean feature, with their cosines."""
    means_GD = unit(np.stack([unit_PD[groups_P == number].mean(0) for number in range(int(groups_P.max()) + 1)]))
    named = []
    for cosine_K in words.cosines(means_GD):
        best = np.argsort(-cosine_K, kind="stable")[:most]
        named.append(tuple((words.names[place], float(cosine_K[place])) for place in best))
    return tuple(named)


def describe(shown: Shown, found: Grouped) -> dict[str, Any]:
    """The numbers of one picture, as plain data."""
    height, width = shown.pixels_HW3.shape[:2]
    segments = [
        {"number": number + 1, "share": share, **({"names": dict(found.names[number])} if found.names else {})}
        for number, share in enumerate(found.share_G.tolist())
    ]
    about = {
        "picture": shown.source,
        "width": width,
        "height": height,
        "grid": list(found.grid),
        "silhouette": found.silhouette,
        "segments": segments,
    }
    if found.tried:
        about["silhouette by number"] = {str(count): value for count, value in found.tried.items()}
    if len(found.overlaps_O):
        about |= {"JS": float(found.overlaps_O.mean()), "objects": found.overlaps_O.tolist()}
    return about
