"""What a background does to the answer: the same subjects on different backgrounds, against the average background.

Two layouts: subjects and backgrounds that are put together here (see ``compose``), where a subject is exactly the same
on each; and Waterbirds, where a subject is a species and backgrounds are land and water.

Shapes: S subject, G background, K label, H/W pixel.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from clippy_core import events
from clippy_core.analysis.backgrounds import compose
from clippy_core.analysis.backgrounds.effects import Effects, Tally, View, Views
from clippy_core.analysis.report import Report, require_extra
from clippy_core.analysis.words import Words, to_array
from clippy_core.errors import DataError, UsageError
from clippy_core.evaluation.benchmarks import waterbirds
from clippy_core.prompts import Label
from clippy_core.segmentation.options import SegmentOptions

if TYPE_CHECKING:
    from clippy_core.segmentation.segmenter import Segmenter

SCALE = 0.6
LAYOUTS = f"{compose.TREE}; or Waterbirds with its metadata.csv"


@dataclass(frozen=True)
class BackgroundsOptions:
    """What to do.

    Attributes:
        labels: The classes; empty for what the subjects are called (or Waterbirds' own).
        size: Short side in pixels that pictures have; None for the model's own.
        scale: Longer side of a subject as a share of the picture's side, 0.05…1.
        templates: Prompts around each word; None for the model's own.
        split: Of Waterbirds: ``test``, ``val`` or ``train``; None for ``test``.
        limit: Of Waterbirds: so many pictures, spread over all; None for all.

    Raises:
        UsageError: A value that is not accepted.
    """

    labels: tuple[Label, ...] = ()
    size: int | None = None
    scale: float = SCALE
    templates: tuple[str, ...] | None = None
    split: str | None = None
    limit: int | None = None

    def __post_init__(self) -> None:
        compose.check_scale(self.scale)
        self.segment  # noqa: B018
        if self.limit is not None and self.limit < 1:
            raise UsageError(f"--limit is {self.limit}; accepted: 1 or more")

    @property
    def segment(self) -> SegmentOptions:
        """The same for the segmenter; raises UsageError for a size or templates that are not accepted."""
        return SegmentOptions(size=self.size, templates=self.templates)


def analyse_backgrounds(
    segmenter: "Segmenter", folder: Path, options: BackgroundsOptions, sink: events.Sink = events.ignore
) -> tuple[Effects, Report]:
    """Look at every subject on every background, and draw what that changes.

    Raises:
        DataError: A folder of another layout, or nothing usable in it.
        UsageError: Labels that do not name the subjects.
        DeviceError: Matplotlib or scikit-learn is missing.
    """
    from clippy_core.analysis.backgrounds.report import draw

    require_extra()
    views = find_views(segmenter, folder, options, sink)
    effects = measure(segmenter, views, options, sink)
    return effects, draw(segmenter.config, effects, views, options)


def check_folder(folder: Path, options: BackgroundsOptions) -> None:
    """Refuse a folder of neither layout, and options of the other, before a model is loaded.

    Raises:
        DataError: A folder of neither layout.
        UsageError: An option that means nothing to the folder's layout.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected: {LAYOUTS}")
    if compose.is_composable(folder):
        useless = [name for name in ("split", "limit") if getattr(options, name) is not None]
        if useless:
            raise UsageError(
                f"--{' and --'.join(useless)}: of Waterbirds; {folder} has {compose.SUBJECTS} and "
                f"{compose.BACKGROUNDS}, and each is laid over each"
            )
        return
    for name in (compose.SUBJECTS, compose.BACKGROUNDS):
        if (folder / name).exists():
            raise DataError(f"{folder}: it has {name}, but its companion folder is missing; expected: {compose.TREE}")
    if not any((folder / below / "metadata.csv").is_file() for below in waterbirds.BELOW):
        raise DataError(f"{folder}: no {compose.SUBJECTS} folder and no metadata.csv; expected: {LAYOUTS}")


def find_views(
    segmenter: "Segmenter", folder: Path, options: BackgroundsOptions, sink: events.Sink = events.ignore
) -> Views:
    """The views in a folder of either layout; raises as :func:`analyse_backgrounds`."""
    from clippy_core.analysis.backgrounds.views import Composed, Waterbirds

    check_folder(folder, options)
    if compose.is_composable(folder):
        return Composed(folder, options.labels, options.size or segmenter.config.vision.size, options.scale, sink)
    return Waterbirds(folder, options.labels, options.split, options.limit)


def measure(
    segmenter: "Segmenter", views: Views, options: BackgroundsOptions, sink: events.Sink = events.ignore
) -> Effects:
    """Ask the model about every view; raises DataError if none can be used."""
    embeddings = segmenter.embed_labels(views.labels, options.segment)
    first_K = np.flatnonzero(np.diff(embeddings.label_of_word, prepend=-1))
    words = Words(embeddings.names, to_array(embeddings.words_KD), first_K)
    scale = float(segmenter.model.logit_scale.detach().exp().clamp(max=100.0))
    tally = Tally(views, len(words.names))
    start = time.perf_counter()
    sink(events.BatchStarted(len(views), 0))
    for view in views:
        begin = time.perf_counter()
        if not isinstance(view, View):
            views.failures.append(view)
            sink(events.ItemFinished(view[0], "failed", view[1], time.perf_counter() - begin))
            continue
        seen = segmenter.encode_batch([view.pixels_HW3], options.segment)
        own = None
        if view.own_HW is not None:
            label_map_HW = segmenter.label(
                seen.patches_BPD[0], seen.grid, view.own_HW.shape, embeddings, options.segment
            )
            own = float((label_map_HW[view.own_HW] == views.truth_S[view.subject]).mean())
        tally.add(view, words.cosines(to_array(seen.pooled_BD))[0], scale, own)
        name = f"{views.subjects[view.subject]} on {views.grounds[view.ground]}"
        sink(events.ItemFinished(name, "ok", None, time.perf_counter() - begin))
    sink(events.BatchFinished(len(tally.answers), len(views.failures), 0, time.perf_counter() - start))
    if not tally.answers:
        raise DataError(f"no picture could be used; the first: {views.failures[0][0]}: {views.failures[0][1]}")
    return tally.effects(words)
