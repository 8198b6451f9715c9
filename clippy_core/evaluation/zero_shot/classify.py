"""Looking at every picture once, and what the model said.

Shapes: N picture of the data set, B picture of a batch, C class, R process.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, cast

import numpy as np

from clippy_core import events
from clippy_core.errors import DataError, UsageError
from clippy_core.evaluation.classification import ranks_of_truth
from clippy_core.evaluation.dense.cache import FeatureCache, hash_key, hash_model
from clippy_core.evaluation.dense.progress import Progress
from clippy_core.evaluation.options import BenchmarkOptions
from clippy_core.evaluation.share import spread
from clippy_core.evaluation.zero_shot.dataset import ClassificationSet, LabelledPicture
from clippy_core.evaluation.zero_shot.embeddings import Embedded, Embedder, about
from clippy_core.evaluation.zero_shot.found import Found
from clippy_core.evaluation.zero_shot.protocol import ClassificationProtocol
from clippy_core.evaluation.zero_shot.scores import Scorer
from clippy_core.segmentation.segmenter import Segmenter
from clippy_core.version import __version__

BATCH = 64
SAVE_SECONDS = 5.0
"""An unfinished run loses at most about so much."""


@dataclass(frozen=True)
class Answers:
    """What the model said.

    Attributes:
        pictures: The pictures that were looked at.
        ranks_N: How many classes stood before the right one, ``int64``; −1 for a picture that could not be used.
        answers_N: The class it said, ``int64``; −1 likewise.
        seconds: Wall time of the slowest process.
        earlier: How many of the pictures an unfinished run had looked at already.
    """

    pictures: tuple[LabelledPicture, ...]
    ranks_N: np.ndarray
    answers_N: np.ndarray
    seconds: float = 0.0
    earlier: int = 0

    @property
    def used_N(self) -> np.ndarray:
        """Which pictures could be used."""
        return self.ranks_N >= 0

    @property
    def truth_N(self) -> np.ndarray:
        """The right classes, ``int64``."""
        return np.array([picture.label for picture in self.pictures], np.int64)

    @property
    def left_out(self) -> tuple[LabelledPicture, ...]:
        """Pictures that could not be used."""
        return tuple(self.pictures[index] for index in np.flatnonzero(~self.used_N))


def classify(
    segmenter: Segmenter, dataset: ClassificationSet, protocol: ClassificationProtocol, options: BenchmarkOptions
) -> Answers:
    """Look at every picture once, whatever the number of processes, and tell everybody what was said.

    Args:
        segmenter: The model.
        dataset: The pictures.
        protocol: How pictures and names are put before the model.
        options: How many of the pictures, which part of them, what is kept, who is told.

    Raises:
        UsageError: Another number of classes was asked for.
        DataError: Not one picture can be used.
        OSError: A folder to write to cannot be written.
    """
    classes = len(dataset.labels)
    if options.classes not in (None, classes):
        raise UsageError(f"a number of classes of {options.classes}; benchmark {dataset.name!r} has {classes} here")
    start, share = time.perf_counter(), options.share
    run = _Run(segmenter, dataset, protocol, options, tuple(spread(dataset.pictures, options.limit)))
    found = run.look()
    total = Found(*(share.add_up(array) for array in found.arrays().values()))
    seconds_R = np.zeros(share.world)
    seconds_R[share.rank] = time.perf_counter() - start
    slowest, earlier = float(share.add_up(seconds_R).max()), int(run.done_N.sum())
    answers = Answers(run.pictures, total.places_N - 1, total.answers_N - 1, slowest, earlier)
    run.finish()
    if not answers.used_N.any():
        raise DataError(f"{run.pictures[0].path}: cannot be used, nor can any of the {len(run.pictures):,} pictures")
    return answers


@dataclass
class _Run:
    """One process's part of a run; what is done already, by an earlier attempt too, is not done again."""

    segmenter: Segmenter
    dataset: ClassificationSet
    protocol: ClassificationProtocol
    options: BenchmarkOptions
    pictures: tuple[LabelledPicture, ...]
    progress: Progress | None = None
    found: Found = field(init=False)
    done_N: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        options = self.options
        self.identity = _identity(self.segmenter) if options.cache or options.out else ""
        self.cache = FeatureCache(options.cache) if options.cache else None
        self.found, self.done_N = Found.of(len(self.pictures)), np.zeros(len(self.pictures), np.int64)
        self.saved = time.perf_counter()
        if options.out:
            # Its own kind of counts is that of label maps; all it does with one, it can do with ours.
            empty = cast(Any, partial(Found.of, len(self.pictures)))
            self.progress = Progress(
                options.out, self._key(), options.share, empty, self._notice, overwrite=options.overwrite
            )
            self.done_N = self.progress.done_N

    def look(self) -> Found:
        """Look at this process's part; what the first gives has the earlier attempts' too."""
        sink, share = self.options.sink, self.options.share
        numbers = [
            range(first, min(first + BATCH, len(self.pictures))) for first in range(0, len(self.pictures), BATCH)
        ]
        mine = [batch for batch in numbers if not self.done_N[batch].all()][share.rank :: share.world]
        skipped = int(self.done_N.sum())
        sink(events.BatchStarted(sum(map(len, mine)) + skipped, skipped))
        start = before = time.perf_counter()
        score = Scorer(self.segmenter, self.dataset.labels, self.protocol.prompts, share, self.cache, self.identity)
        embedder = Embedder(self.segmenter, self.protocol, self.options.segment.max_pixels, self.cache, self.identity)
        paths = [[self.pictures[index].path for index in batch] for batch in mine]
        for batch, embedded in zip(mine, embedder(paths), strict=True):
            self._count(batch, embedded, score)
            now = time.perf_counter()
            self._tell(batch, embedded, (now - before) / len(batch))
            before = now
        right = int((self.found.places_N > 0).sum())
        sink(events.BatchFinished(right, int(self.found.done_N.sum()) - right, skipped, before - start))
        if self.progress is not None:
            self.progress.save(cast(Any, self.found))
            self.found.absorb(cast(Any, self.progress.earlier).arrays())
        return self.found

    def finish(self) -> None:
        """Delete what an unfinished run would have gone on from; call it when every process has given its part."""
        if self.progress is not None and self.options.share.rank == 0:
            self.progress.remove()

    def _count(self, batch: Sequence[int], embedded: Embedded, score: Scorer) -> None:
        used = [place for place, error in enumerate(embedded.errors) if not error]
        indices = [batch[place] for place in used]
        if used:
            scores_BC = score(embedded.pooled_BD[used])
            truth_B = np.array([self.pictures[index].label for index in indices], np.int64)
            self.found.places_N[indices] = ranks_of_truth(scores_BC, truth_B, in_order=True) + 1
            self.found.answers_N[indices] = scores_BC.argmax(1) + 1
        self.found.done_N[list(batch)] = 1
        if self.progress is not None and time.perf_counter() - self.saved > SAVE_SECONDS:
            self.progress.save(cast(Any, self.found))
            self.saved = time.perf_counter()

    def _tell(self, batch: Sequence[int], embedded: Embedded, seconds: float) -> None:
        for index, error in zip(batch, embedded.errors, strict=True):
            name, status = self.dataset.name_of(self.pictures[index]), "failed" if error else "ok"
            self.options.sink(events.ItemFinished(name, status, error or None, seconds))

    def _notice(self, text: str) -> None:
        self.options.sink(events.Noticed(text))

    def _key(self) -> str:
        """Everything that the answers depend on."""
        labels = [label.words for label in self.dataset.labels]
        pictures = [[*about(picture.path), picture.label] for picture in self.pictures]
        return hash_key(
            [
                __version__,
                self.identity,
                asdict(self.protocol),
                labels,
                pictures,
                self.options.segment.max_pixels,
                BATCH,
            ]
        )


def _identity(segmenter: Segmenter) -> str:
    return f"{hash_model(segmenter)} {segmenter.placement.device.type} {segmenter.placement.dtype}"
