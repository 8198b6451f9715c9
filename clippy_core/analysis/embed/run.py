"""A folder's pictures and labels together: what lies near what, what is there twice, and what goes together.

Of every picture its embedding, a small copy and a hash are kept, and nothing else, so that thousands fit.

Shapes: N picture, K label, D embedding, G cluster, T rank among the nearest, H/W pixel.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from clippy_core import events
from clippy_core.analysis.colours import fit
from clippy_core.analysis.embed.clusters import call_clusters, centre, cluster
from clippy_core.analysis.embed.duplicates import Duplicate, find_duplicates, perceptual_hash
from clippy_core.analysis.maps import PROJECTIONS, project
from clippy_core.analysis.pictures import Pictures
from clippy_core.analysis.report import Report, require_extra
from clippy_core.analysis.words import Words, to_array
from clippy_core.errors import UsageError
from clippy_core.files import write_bytes
from clippy_core.prompts import Label
from clippy_core.segmentation.inputs import Input
from clippy_core.segmentation.options import SegmentOptions

if TYPE_CHECKING:
    from clippy_core.segmentation.segmenter import Segmenter

DUPLICATES = 0.97
SMALL = 112
"""Longer side in pixels of the copies that are kept."""
NEIGHBOURS = 6
BLOCK = 512
TABLE = "embed.csv"


@dataclass(frozen=True)
class EmbedOptions:
    """What to do.

    Attributes:
        labels: What pictures are compared with.
        size: Short side in pixels that pictures are resized to; None for the model's own.
        templates: Prompts around each word; None for the model's own.
        projection: ``tsne`` or ``pca``: how the map is made.
        duplicates: Cosine from which on two pictures may be one, -1…1; they must look alike too.
        clusters: How many; None to choose by silhouette.

    Raises:
        UsageError: A value that is not accepted.
    """

    labels: tuple[Label, ...]
    size: int | None = None
    templates: tuple[str, ...] | None = None
    projection: str = "tsne"
    duplicates: float = DUPLICATES
    clusters: int | None = None

    def __post_init__(self) -> None:
        self.segment  # noqa: B018
        if not self.labels:
            raise UsageError('say what to compare with by --labels "dog,grass" or --labels-file FILE')
        if self.projection not in PROJECTIONS:
            raise UsageError(f"--projection is {self.projection!r}; accepted: {', '.join(PROJECTIONS)}")
        if not -1 <= self.duplicates <= 1:
            raise UsageError(f"--duplicates is {self.duplicates:g}; accepted: a cosine, -1 to 1, such as {DUPLICATES}")
        if self.clusters is not None and self.clusters < 1:
            raise UsageError(f"--clusters is {self.clusters}; accepted: 1 or more, or auto")

    @property
    def segment(self) -> SegmentOptions:
        """The same for the segmenter; raises UsageError for a size or templates that are not accepted."""
        return SegmentOptions(size=self.size, templates=self.templates)


@dataclass(eq=False)
class Gallery:
    """Pictures as they were seen.

    Attributes:
        sources: Where each came from.
        pooled_ND: Their embeddings, unit length, ``float32``.
        hash_N: Their perceptual hashes, ``uint64``.
        small: Small copies, ``uint8`` RGB.
        failures: Files that could not be used, and why.
        seconds: Wall time of reading and encoding.
    """

    sources: tuple[str, ...]
    pooled_ND: np.ndarray
    hash_N: np.ndarray
    small: list[np.ndarray]
    failures: list[tuple[str, str]]
    seconds: float


@dataclass(eq=False)
class Neighbourhood:
    """What lies near what.

    Attributes:
        gallery: The pictures.
        names: The labels' names.
        cosine_NK: Of every picture with every label.
        probability_NK: Softmax over the labels.
        nearest_NT: For each picture the others, nearest first, and
        nearest_cosine_NT: their cosines.
        duplicates: Pairs that are one picture twice.
        copies: Groups of pictures that are one, by number.
        cluster_N: Each picture's cluster, the largest first; all 0 where there are too few pictures.
        silhouette: How well clusters are apart, -1…1; NaN for one cluster.
        called: For each cluster the label that sets it apart.
        at_N2: Where pictures are on the map, and
        at_K2: where labels are.
        gap: Distance between the mean picture and the mean label.
    """

    gallery: Gallery
    names: tuple[str, ...]
    cosine_NK: np.ndarray
    probability_NK: np.ndarray
    nearest_NT: np.ndarray
    nearest_cosine_NT: np.ndarray
    duplicates: list[Duplicate]
    copies: list[tuple[int, ...]]
    cluster_N: np.ndarray
    silhouette: float
    called: tuple[str, ...]
    at_N2: np.ndarray
    at_K2: np.ndarray
    gap: float
    timing: dict[str, float] = field(default_factory=dict)

    @property
    def relative_N(self) -> np.ndarray:
        """Each picture's label that is highest above what it is for the average picture."""
        return (self.cosine_NK - self.cosine_NK.mean(0)).argmax(1)

    @property
    def label_N(self) -> np.ndarray:
        """Each picture's nearest label."""
        return self.cosine_NK.argmax(1)


def analyse_embed(
    segmenter: "Segmenter",
    inputs: Sequence[Input],
    options: EmbedOptions,
    out: Path,
    sink: events.Sink = events.ignore,
) -> tuple[Neighbourhood, Report]:
    """Look at all pictures, write ``embed.csv``, and draw what there is to see.

    Raises:
        DataError: No picture can be used.
        DeviceError: Matplotlib or scikit-learn is missing.
    """
    from clippy_core.analysis.embed.report import draw, to_csv

    require_extra()
    embeddings = segmenter.embed_labels(options.labels, options.segment)
    first_K = np.flatnonzero(np.diff(embeddings.label_of_word, prepend=-1))
    words = Words(embeddings.names, to_array(embeddings.words_KD), first_K)
    gallery = look_at_all(segmenter, inputs, options, sink)
    scale = float(segmenter.model.logit_scale.detach().exp().clamp(max=100.0))
    found = arrange(gallery, words, scale, options)
    report = draw(segmenter.config, found, options)
    write_bytes(out / TABLE, to_csv(found).encode("utf-8", "backslashreplace"))
    return found, replace(report, attached=(TABLE,))


def look_at_all(
    segmenter: "Segmenter", inputs: Sequence[Input], options: EmbedOptions, sink: events.Sink = events.ignore
) -> Gallery:
    """Embed every picture, whole, one at a time; raises DataError if none can be used."""
    start = time.perf_counter()
    pictures = Pictures(inputs, sink)
    sources, pooled, hashes, small = [], [], [], []
    for shown in pictures:
        seen = segmenter.encode_batch([shown.pixels_HW3], options.segment)
        sources.append(shown.source)
        pooled.append(to_array(seen.pooled_BD)[0].copy())
        hashes.append(perceptual_hash(shown.pixels_HW3))
        small.append(fit(shown.pixels_HW3, SMALL))
    return Gallery(
        tuple(sources),
        np.stack(pooled),
        np.array(hashes, np.uint64),
        small,
        pictures.failures,
        time.perf_counter() - start,
    )


def arrange(gallery: Gallery, words: Words, scale: float, options: EmbedOptions) -> Neighbourhood:
    """Everything that follows from the embeddings.

    Args:
        gallery: The pictures.
        words: The labels.
        scale: The model's factor on cosines.
        options: How.
    """
    start = time.perf_counter()
    cosine_NK = words.cosines(gallery.pooled_ND)
    weights_NK = np.exp(scale * (cosine_NK - cosine_NK.max(1, keepdims=True)))
    nearest_NT, nearest_cosine_NT = nearest(gallery.pooled_ND, NEIGHBOURS)
    duplicates, copies = find_duplicates(gallery.pooled_ND, gallery.hash_N, options.duplicates)
    cluster_N, silhouette = cluster(gallery.pooled_ND, options.clusters)
    labels_KD = label_vectors(words)
    at_N2, at_K2 = lay_out(gallery.pooled_ND, labels_KD, options.projection)
    gap = float(np.linalg.norm(gallery.pooled_ND.mean(0) - labels_KD.mean(0)))
    return Neighbourhood(
        gallery,
        words.names,
        cosine_NK,
        weights_NK / weights_NK.sum(1, keepdims=True),
        nearest_NT,
        nearest_cosine_NT,
        duplicates,
        copies,
        cluster_N,
        silhouette,
        call_clusters(cosine_NK, cluster_N, words.names),
        at_N2,
        at_K2,
        gap,
        {
            "encode seconds": gallery.seconds,
            "images/s": len(gallery.sources) / max(gallery.seconds, 1e-9),
            "arrange seconds": time.perf_counter() - start,
        },
    )


def label_vectors(words: Words) -> np.ndarray:
    """One unit vector a label, (K, D): the direction of the mean of its words."""
    sums_KD = np.add.reduceat(words.words_WD, words.first_K, axis=0)
    return sums_KD / np.maximum(np.linalg.norm(sums_KD, axis=1, keepdims=True), 1e-12)


def nearest(vectors_ND: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """For each vector the numbers of the ``count`` others (or all) of highest cosine, and these cosines, (N, T)."""
    total = len(vectors_ND)
    count = min(count, total - 1)
    places, cosines = np.empty((total, count), int), np.empty((total, count), np.float32)
    for first in range(0, total if count else 0, BLOCK):
        cosines_BN = vectors_ND[first : first + BLOCK] @ vectors_ND.T
        rows = np.arange(len(cosines_BN))
        cosines_BN[rows, first + rows] = -np.inf
        order_BT = np.argsort(-cosines_BN, axis=1, kind="stable")[:, :count]
        places[first : first + BLOCK] = order_BT
        cosines[first : first + BLOCK] = np.take_along_axis(cosines_BN, order_BT, 1)
    return places, cosines


def lay_out(pooled_ND: np.ndarray, labels_KD: np.ndarray, method: str) -> tuple[np.ndarray, np.ndarray]:
    """Places of pictures and labels on one map.

    Pictures lie in one part of the joint space and texts in another, which would be all that a map shows. So each kind
    is taken relative to its own mean.
    """
    at = project(np.concatenate([centre(pooled_ND), centre(labels_KD)]), method)
    return at[: len(pooled_ND)], at[len(pooled_ND) :]
