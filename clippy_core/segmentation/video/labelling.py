"""A video in, its frames labelled.

Every frame is labelled as the picture it is, with the words embedded once, so frame 123 gets what that frame would get
alone. Memory does not grow with the length: at most three frames are there at a time, and what is said of each goes to
disk at once.

Outputs for the stem ``OUT/clip``: ``overlay`` is one video, ``OUT/clip.overlay.mp4``; ``json`` is one document,
``OUT/clip.json``; every other output is written for each frame, as ``OUT/clip/frame-000123.labels.png``.
"""

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clippy_core import events
from clippy_core.errors import DataError, UsageError
from clippy_core.files import remove_leftovers
from clippy_core.images import Picture
from clippy_core.segmentation.writers import FRAME, VIDEO_ENDINGS

if TYPE_CHECKING:
    from clippy_core.segmentation.batch.run import Job
    from clippy_core.segmentation.inputs import Input
    from clippy_core.segmentation.result import Segmentation
    from clippy_core.segmentation.segmenter import Segmenter
    from clippy_core.segmentation.video.reading import Frame

SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("mp4", "m4v", "mov", "avi", "mkv", "webm", "mpg", "mpeg", "m2v", "mts", "m2ts", "ts"),
        *("wmv", "asf", "flv", "f4v", "ogv", "3gp", "3g2", "vob", "mjpeg", "mjpg"),
    )
)
"""Containers that the FFmpeg in OpenCV's packages reads. Animated GIF and WebP are pictures here."""
MAX_FPS = 1000


def is_video(path: str | os.PathLike[str]) -> bool:
    """Whether a file is taken for a video, by its name."""
    return Path(path).suffix.lower() in SUFFIXES


class Stopped(Exception):  # noqa: N818 - nothing went wrong
    """The run is to end before the video does; of files that cover all frames, none is left."""


@dataclass(frozen=True)
class LabelledVideo:
    """What became of a video.

    Attributes:
        files: The files written.
        shares: Share of the pixels of all frames, 0…1, of every label that has any.
        notes: What was decided for the user.
        error: What ended it too early: a ``DataError`` about the video, an ``OSError`` about the outputs; ``files`` are
            those that it came to. None if nothing did.
    """

    files: list[Path]
    shares: dict[str, float]
    notes: tuple[str, ...] = ()
    error: DataError | OSError | None = None


def segment_video(
    segmenter: "Segmenter", item: "Input", job: "Job", fps: float | None = None, sink: events.Sink = events.ignore
) -> list[Path]:
    """Label the frames of a video and write what the job asks for; as :func:`label_video`, but raises what ended it.

    Args:
        segmenter: The model.
        item: The video.
        job: What to do with it.
        fps: Frames to look at in a second of the video; None for all.
        sink: Hears what was decided for the user.

    Returns:
        The files written.
    """
    labelled = label_video(segmenter, item, job, fps)
    for note in labelled.notes:
        sink(events.Noticed(f"{item.source}: {note}"))
    if labelled.error is not None:
        raise labelled.error
    return labelled.files


def label_video(
    segmenter: "Segmenter",
    item: "Input",
    job: "Job",
    fps: float | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> LabelledVideo:
    """Label the frames of a video and write what the job asks for.

    Args:
        segmenter: The model.
        item: The video.
        job: What to do with it.
        fps: Frames to look at in a second of the video; None for all.
        stopped: Asked before every frame.

    Raises:
        Stopped: ``stopped`` said yes.
        UsageError: ``fps`` out of range.
        DataError: It is no video, or its document would be written over somebody else's.
        OSError: It or the output folder cannot be opened.
    """
    from clippy_core.segmentation.video.reading import VideoReader

    if fps is not None and not 0 < fps <= MAX_FPS:
        raise UsageError(f"--fps is {fps:g}; accepted: above 0 and up to {MAX_FPS} frames a second")
    with VideoReader(item.source, max_pixels=job.options.max_pixels) as video:
        rate = video.rate if fps is None else min(fps, video.rate)
        outputs = _Outputs(job.out / item.stem, item.source, job.writers, rate)
        error: DataError | OSError | None
        try:
            expected = round(video.expected * rate / video.rate)
            error = _label_frames(segmenter, video.frames(fps), expected, job, outputs, stopped)
            outputs.finish(complete=error is None)
        except (DataError, OSError) as failure:
            error = failure
        finally:
            outputs.discard()
    return LabelledVideo(outputs.files, outputs.totals.shares, tuple(outputs.notes), error)


def _label_frames(
    segmenter: "Segmenter",
    frames: Any,
    expected: int,
    job: "Job",
    outputs: "_Outputs",
    stopped: Callable[[], bool],
) -> DataError | None:
    """Label every frame and hand it to the outputs; answers with what ended the video too early."""
    written: Future[None] | None = None
    broken = None
    # Frames are drawn and written in their order by one thread, while the next ones are decoded and labelled.
    with ThreadPoolExecutor(1, "clippy-write") as writer:
        while True:
            if stopped():
                raise Stopped
            try:
                frame = next(frames, None)
            except DataError as error:
                if written is None:
                    raise
                broken, frame = error, None
            if frame is None:
                break
            picture = Picture(frame.pixels_HW3, "video")
            result = segmenter.segment(picture, job.labels, job.options, images_ahead=max(1, expected))
            if written is not None:
                written.result()
            written = writer.submit(outputs.add, frame, result)
        if written is not None:
            written.result()
    return broken


class _Outputs:
    """What is written of one video.

    Attributes:
        totals: The frames so far.
        notes: What was decided for the user.
    """

    def __init__(self, stem: Path, source: str, writers: tuple[str, ...], rate: float) -> None:
        from clippy_core.segmentation.video.document import Timeline, Totals
        from clippy_core.segmentation.video.overlay import FrameOverlay, VideoFile

        self._stem, self._source, self._rate = stem, source, rate
        stem.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(stem)
        self._each = tuple(name for name in writers if name not in VIDEO_ENDINGS)
        self._video = VideoFile(stem, rate) if "overlay" in writers else None
        self._overlay = FrameOverlay()
        self._timeline = Timeline(stem) if "json" in writers else None
        self._whole: list[Path] = []
        self._frames: list[Path] = []
        self._noted = False
        self.totals = Totals()
        self.notes: list[str] = []

    def add(self, frame: "Frame", result: "Segmentation") -> None:
        """Draw and write one frame."""
        # How long it took differs from run to run; the name is what the frame's own outputs are called.
        name = f"{FRAME}{frame.number:06d}"
        result = replace(result, source=f"{self._source}/{name}", seconds={})
        if self._video is not None and self._video.wants(frame.seconds):
            self._video.write(self._overlay.draw(result), frame.seconds)
        if self._timeline is not None:
            self._timeline.add(frame, result)
        if self._each:
            self._frames += result.save(self._stem / name, self._each)
        if not self.totals.frames and self._video is not None and (result.height % 2 or result.width % 2):
            self.notes.append("the video with overlays lacks the last row or column: its codec wants even sizes")
        if result.picture.notes and not self._noted:
            self._noted = True  # of the first frame that has some; those of all would fill the manifest
            self.notes += [f"{name}, and perhaps later ones: {note}" for note in result.picture.notes]
        self.totals.add(frame, result)

    @property
    def files(self) -> list[Path]:
        """The files that have their names."""
        return self._whole + self._frames

    def finish(self, *, complete: bool) -> None:
        """Give the files that cover all frames their names."""
        if self._video is not None:
            self._whole += self._video.finish()
        if self._timeline is not None:
            self._whole += self._timeline.finish(self._source, self._rate, self.totals, self.notes, complete=complete)

    def discard(self) -> None:
        """Delete what has not been given its name."""
        if self._video is not None:
            self._video.discard()
        if self._timeline is not None:
            self._timeline.discard()
