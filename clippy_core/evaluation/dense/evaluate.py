"""The loop over the pictures of a dense benchmark: read, predict, count, each picture once.

Shapes: N picture, H/W pixel.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from clippy_core.errors import UsageError
from clippy_core.evaluation.benchmarks import BenchmarkOptions, Report
from clippy_core.evaluation.dense import calibrate, overlays
from clippy_core.evaluation.dense.ahead import read_ahead
from clippy_core.evaluation.dense.cache import FeatureCache, hash_key
from clippy_core.evaluation.dense.calibrate import Chosen, Sweep, limited
from clippy_core.evaluation.dense.dataset import DenseDataset, Example
from clippy_core.evaluation.dense.geometry import Reader, Sample
from clippy_core.evaluation.dense.predict import ModelPredictor, Prediction, Predictor
from clippy_core.evaluation.dense.progress import SAVE_EVERY, Progress
from clippy_core.evaluation.dense.summary import describe, summarise, write_images
from clippy_core.evaluation.dense.tally import Tally
from clippy_core.evaluation.protocols import Protocol, resolve
from clippy_core.evaluation.share import spread
from clippy_core.events import BatchFinished, BatchStarted, ItemFinished, Noticed
from clippy_core.version import __version__

if TYPE_CHECKING:
    from clippy_core.segmentation.segmenter import Segmenter


def evaluate(segmenter: "Segmenter", read: Callable[..., DenseDataset], options: BenchmarkOptions) -> Report:
    """Measure a model.

    Args:
        segmenter: The model.
        read: Gives the data set for ``classes`` and ``split``.
        options: How.

    Raises:
        UsageError: Options that do not fit each other or the data set.
        DataError: The data set, a picture or a mask cannot be used.
        OSError: A file cannot be written.
    """
    protocol = resolve(options)
    dataset = read(classes=options.classes, split=protocol.split)
    protocol = fit(protocol, dataset, options)
    cache = None if options.cache is None else FeatureCache(options.cache)
    if cache is not None and options.share.rank == 0:
        cache.remove_leftovers()
    predictor = ModelPredictor(
        segmenter, dataset, protocol, options.grouping, pictures=len(dataset.examples), cache=cache
    )
    if options.metric != "bottom-up":
        predictor.embed_words()  # Once, and not as part of the first picture's time.
    report = measure(dataset, predictor, protocol, options, side=predictor.side)
    if cache is not None and cache.full:
        options.sink(Noticed(f"{cache.folder}: full at {cache.limit:,} bytes; further features were not kept"))
    return report


def fit(protocol: Protocol, dataset: DenseDataset, options: BenchmarkOptions) -> Protocol:
    """The protocol without what means nothing for a data set.

    Raises:
        UsageError: Something that the user asked for means nothing.
    """
    if options.metric != "top-down" and dataset.read_objects is None:
        why = f" ({'; '.join(dataset.notes)})" if dataset.notes else ""
        raise UsageError(f"--metric {options.metric}: {dataset.name} has no objects{why}; accepted: top-down")
    if options.calibrate is not None and len(dataset.examples[: options.limit]) < 2:
        raise UsageError("--calibrate: 1 picture cannot be split into those to choose on and those to report")
    if dataset.background is not None:
        return protocol
    named = ("background", "limit", "distractors")
    asked = {name for name in named if name in protocol.changed and getattr(protocol, name) not in ("none", ())}
    if asked or options.calibrate is not None:
        by = {"background": "--background", "limit": "--background", "distractors": "distractors"}
        given = dict.fromkeys(by[name] for name in sorted(asked)) or ["--calibrate"]
        how = "; a line `background` in its labels.txt makes one" if dataset.name == "folder" else ""
        raise UsageError(f"{dataset.name} has no class for background{how}; leave {', '.join(given)} out")
    if protocol.background == "none" and protocol.limit == "none" and not protocol.distractors:
        return protocol
    remark = "names, limit and distractors of the background do not apply: the data set has no class for it"
    return replace(protocol, background="none", limit="none", distractors=(), remarks=(*protocol.remarks, remark))


@dataclass(frozen=True)
class _Job:
    """What stays the same from picture to picture."""

    dataset: DenseDataset
    examples: tuple[Example, ...]
    predictor: Predictor
    protocol: Protocol
    options: BenchmarkOptions
    side: int

    @property
    def reader(self) -> Reader:
        top_down, bottom_up = self.options.metric != "bottom-up", self.options.metric != "top-down"
        pixels = self.options.segment.max_pixels
        return Reader(self.dataset, self.examples, self.protocol, self.side, top_down, bottom_up, pixels)

    def predict(self, sample: Sample) -> Prediction:
        """Labels with the protocol's limit applied, and segments, as far as the metric needs them."""
        certainty, metric = self.protocol.certainty, self.options.metric
        found = self.predictor(sample, labels=metric != "bottom-up", certainty=certainty, segments=metric != "top-down")
        if found.labels_HW is None or found.certainty_HW is None:
            return found
        labels_HW = limited(found.labels_HW, found.certainty_HW, self.protocol.limit_value, self.dataset.background)
        return replace(found, labels_HW=labels_HW)

    def mine(self, places: Sequence[int]) -> list[int]:
        """This process's part of the pictures."""
        return [place for batch in self.options.share.batches(places, 1) for place in batch]


def measure(
    dataset: DenseDataset, predictor: Predictor, protocol: Protocol, options: BenchmarkOptions, *, side: int
) -> Report:
    """Measure a predictor; what :func:`evaluate` does once there is one.

    Args:
        dataset: The pictures.
        predictor: What is asked about each.
        protocol: How pictures and masks are prepared and labels decided; it fits the data set.
        options: What is measured, and where files go.
        side: The short side of a prepared picture in pixels.
    """
    share = options.share
    job = _Job(dataset, tuple(spread(dataset.examples, options.limit)), predictor, protocol, options, side)
    reported: Sequence[int] = range(len(job.examples))
    about = predictor.describe()
    if options.calibrate is not None:
        trial, reported = calibrate.split(len(job.examples), options.calibrate.share)
        chosen = _calibrate(job, trial)
        limit = f"{options.calibrate.kind}={chosen.value!r}"
        job = replace(job, protocol=replace(protocol, limit=limit))
        about |= {"calibration": chosen.describe(options.calibrate.kind)}
    tally = _empty(job)
    progress = None
    if options.out is not None:
        key = _key(job, reported, about)
        progress = Progress(
            options.out,
            key,
            share,
            lambda: _empty(job),
            lambda text: options.sink(Noticed(text)),
            overwrite=options.overwrite,
        )
    done_N = progress.done_N if progress is not None else np.zeros(len(job.examples), np.int64)
    seconds = _count(job, job.mine([place for place in reported if not done_N[place]]), tally, progress)
    pictures = int(share.add_up(np.array([tally.done_N.sum()]))[0])
    if progress is not None:
        tally.absorb(progress.earlier.arrays())
    for array in tally.arrays().values():
        array[...] = share.add_up(array)
    timing = _timing(pictures, seconds, options)
    names = [example.name for example in job.examples]
    report = summarise(dataset, names, tally, job.protocol, options, about, timing)
    if share.rank == 0 and options.out is not None:
        _write(job, tally, report)
        if progress is not None:
            progress.remove()
    return report


def _empty(job: _Job) -> Tally:
    return Tally(len(job.dataset.classes), len(job.examples))


def _calibrate(job: _Job, trial: Sequence[int]) -> Chosen:
    """Try every limit on these pictures, all processes together."""
    wanted, options = job.options.calibrate, job.options
    assert wanted is not None, "asked for"
    options.sink(Noticed(f"choosing the limit of the background on {len(trial):,} pictures that are not reported"))
    sweep, reader = Sweep(job.dataset, wanted), replace(job.reader, objects=False)
    for sample in read_ahead(reader, job.mine(trial)):
        found = job.predictor(sample, labels=True, certainty=wanted.kind, segments=False)
        assert sample.truth_HW is not None, "read with masks"
        assert found.labels_HW is not None, "asked for"
        assert found.certainty_HW is not None, "asked for"
        sweep.add(sample.truth_HW, found.labels_HW, found.certainty_HW)
    chosen = sweep.choose(options.share, trial)
    options.sink(Noticed(f"limit of the background: {chosen.tell(wanted.kind)}"))
    return chosen


def _count(job: _Job, places: Sequence[int], tally: Tally, progress: Progress | None) -> float:
    """Look at pictures and count them; returns how long it took, in seconds."""
    sink, start = job.options.sink, time.perf_counter()
    skipped = int(progress.done_N.sum()) if progress is not None else 0
    sink(BatchStarted(len(places) + skipped, skipped))
    try:
        for number, (place, sample) in enumerate(zip(places, read_ahead(job.reader, places), strict=True), start=1):
            begin = time.perf_counter()
            found = job.predict(sample)
            seconds = time.perf_counter() - begin
            tally.add(
                place,
                labels=_pair(sample.truth_HW, found.labels_HW),
                segments=_pair(sample.objects_HW, found.segments_HW),
                seconds=seconds,
            )
            sink(ItemFinished(sample.example.name, "ok", None, seconds))
            if progress is not None and number % SAVE_EVERY == 0:
                progress.save(tally)
    finally:
        # Also when it ends early: what is counted is counted.
        if progress is not None and tally.done_N.any():
            progress.save(tally)
    taken = time.perf_counter() - start
    sink(BatchFinished(len(places), 0, skipped, taken))
    return taken


def _pair(truth_HW: np.ndarray | None, found_HW: np.ndarray | None) -> tuple[np.ndarray, np.ndarray] | None:
    return None if truth_HW is None or found_HW is None else (truth_HW, found_HW)


def _key(job: _Job, reported: Sequence[int], about: dict[str, Any]) -> str:
    """Hash of everything that counts depend on."""
    choices = describe(job.dataset, _empty(job), job.protocol, job.options)
    names = [job.examples[place].name for place in reported]
    return hash_key([__version__, job.predictor.identity, job.dataset.name, choices, about, job.side, names])


def _timing(pictures: int, seconds: float, options: BenchmarkOptions) -> dict[str, float]:
    """Wall time of the slowest process."""
    each_R = np.zeros(options.share.world)
    each_R[options.share.rank] = seconds
    slowest = float(options.share.add_up(each_R).max())
    rate = pictures / slowest if slowest > 0 else 0.0
    return {"seconds": slowest, "images/s": rate, "pictures": float(pictures)}


def _write(job: _Job, tally: Tally, report: Report) -> None:
    """The CSV of pictures, and the worst of them as overlays."""
    out = job.options.out
    assert out is not None, "checked before"
    write_images(out, report.images)
    overlays.clear(out)
    worst = overlays.worst_first(tally.figures_NF[:, 0], tally.done_N, job.options.worst)
    for place, sample in enumerate(_again(job, worst), start=1):
        labels_HW = job.predict(sample).labels_HW
        assert labels_HW is not None, "metrics without labels draw nothing"
        overlays.write_overlay(out, place, sample, labels_HW, job.dataset)


def _again(job: _Job, places: Sequence[int]) -> Iterator[Sample]:
    yield from read_ahead(job.reader, places)
