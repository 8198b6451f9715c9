"""Many pictures, unattended: one bad picture is one line, and what is finished stays finished."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clippy_core import events
from clippy_core.errors import ClippyError
from clippy_core.files import refuse_foreign, remove_leftovers
from clippy_core.prompts import Label
from clippy_core.segmentation.batch.lock import locked
from clippy_core.segmentation.batch.manifest import BEGUN, FAILED, OK, Manifest, Record, Records, digest
from clippy_core.segmentation.batch.manifest import NAME as MANIFEST
from clippy_core.segmentation.batch.parts import FOLDER, take_over, tidy
from clippy_core.segmentation.inputs import PICTURE, STDIN, VIDEO, Input
from clippy_core.segmentation.options import SegmentOptions
from clippy_core.segmentation.writers import ENDINGS, FRAGMENTS, RUN_FILES, RUN_KINDS, VIDEO_ENDINGS

if TYPE_CHECKING:
    from clippy_core.segmentation.result import Segmentation
    from clippy_core.segmentation.segmenter import Segmenter

WITHOUT_EFFECT_ON_OUTPUTS = ("out", "overwrite", "fail_fast", "summary", "batch")


@dataclass(frozen=True)
class Job:
    """What to do with every input of a run.

    Attributes:
        labels: What to look for.
        options: How.
        model: What tells the model from others: :meth:`ModelChoice.fingerprint`, or any text of the caller's.
        out: Output folder.
        writers: Names of the outputs to write.
        overwrite: Do finished inputs again.
        fail_fast: Work on one input at a time and stop at the first that fails.
        fps: Frames of a video to look at in a second of it; None for all.
        summary: Write a report on the whole run at its end.
        batch: Pictures of one size in a forward pass; None for what suits the device, see :mod:`pipeline`.
    """

    labels: tuple[Label, ...]
    options: SegmentOptions
    model: str
    out: Path
    writers: tuple[str, ...]
    overwrite: bool = False
    fail_fast: bool = False
    fps: float | None = None
    summary: bool = False
    batch: int | None = None

    def digest(self) -> str:
        """A digest of what determines the outputs."""
        settings = asdict(self)
        for name in WITHOUT_EFFECT_ON_OUTPUTS:
            settings.pop(name)
        settings["options"].pop("max_pixels")  # whoever raises it wants the pictures that were refused
        return digest(settings)


@dataclass(frozen=True)
class ModelChoice:
    """Which model to load and where: what a process of its own needs to know. Fields as for ``clippy_core.load``."""

    model: str = "clippy-lite"
    checkpoint: Path | None = None
    device: str = "auto"
    precision: str = "auto"
    runtime: str = "auto"

    def fingerprint(self) -> str:
        """What tells this choice from others: the model's contents, and the number format and runtime asked for.

        Raises:
            ClippyError: As ``clippy_core.load``, for what can be said without loading.
        """
        from clippy_core.model.fingerprint import fingerprint

        return f"{fingerprint(self.model, self.checkpoint)} {self.precision} {self.runtime}"

    def load(self) -> "Segmenter":
        """The model, ready to segment; raises as ``clippy_core.load``."""
        from clippy_core.segmentation.segmenter import load

        return load(
            self.model,
            checkpoint=self.checkpoint,
            device=self.device,
            precision=self.precision,
            runtime=self.runtime,
        )


@dataclass(frozen=True)
class Work:
    """What is left to do of a run, for whoever does it.

    Attributes:
        items: The inputs.
        job: What to do with them.
        total: Inputs of the whole run, finished ones included.
        done: To be told of every input as soon as it is finished or has failed, from one thread; answers whether to
            go on with further ones. What is told in parts, that an input was begun, may be passed on to it.
        sink: Hears of what else happens.
        begun: To be told of every input before its outputs are written, from the same thread.
    """

    items: Sequence[Input]
    job: Job
    total: int
    done: Callable[[Record], bool]
    sink: events.Sink = events.ignore
    begun: Callable[[Input], None] = lambda item: None


Crew = Callable[[Work], None]
"""Who does the work: this process, several, or several machines."""


def alone(load: "Callable[[], Segmenter]", on_result: "Callable[[Segmentation], None] | None" = None) -> Crew:
    """A crew of this process only.

    Args:
        load: Gives the model; called only if something is left to do.
        on_result: Hears of every picture that was segmented.
    """

    def work(work: Work) -> None:
        from clippy_core.segmentation.batch.pipeline import Pipeline

        if work.items:
            Pipeline(load(), work, on_result=on_result).run()

    return work


def segment_one(segmenter: "Segmenter", item: Input, job: Job) -> "tuple[Segmentation, list[Path]]":
    """Segment one picture and write its outputs.

    Where the output folder has the manifest of a run, the picture gets a line there. It belongs to no run, so that the
    next run over it does it again, as it does those whose outputs were written over.

    Raises:
        ImageError: The picture cannot be used.
        DataError: A run is writing to the output folder.
        OSError: The outputs cannot be written.
    """
    _refuse_foreign(job)
    result = segmenter.segment(item.open(), job.labels, job.options)
    if item.place is not None:
        result = replace(result, source=item.source)
    job.out.mkdir(parents=True, exist_ok=True)
    if (job.out / FOLDER).is_dir():
        with locked(job.out):
            take_over(Manifest(job.out, ""))  # else what a killed run left there would seem the later of the two
    with locked(job.out, shared=True):
        manifest = Manifest(job.out, "") if (job.out / MANIFEST).exists() else None
        if manifest is not None:
            manifest.withdraw(item.source, planned(item, job))
        files = result.save(job.out / item.stem, job.writers)
        record = finished(item, job, files, labels=shares(result), notes=list(result.picture.notes))
        if manifest is not None:
            manifest.append(record)
            manifest.commit()
        shown = [file for file in files if FRAGMENTS not in file.parts]
        return result, shown + _of_the_run(job, [record])


def finished(item: Input, job: Job, files: Sequence[Path], **about: Any) -> Record:
    """The record of an input whose outputs were written; ``about`` are further fields of it."""
    outputs = [file.relative_to(job.out).as_posix() for file in files]
    return Record(item.source, OK, outputs, stem=item.stem.as_posix(), **about)


def planned(item: Input, job: Job) -> list[str]:
    """Outputs that an input is to have, relative to the output folder: those whose names are known beforehand."""
    endings = ENDINGS if item.kind == PICTURE else VIDEO_ENDINGS
    return [f"{item.stem.as_posix()}{endings[name]}" for name in job.writers if name in endings]


def shares(result: "Segmentation") -> dict[str, float]:
    """Share of the pixels of every label that has any, 0…1."""
    return {label.name: round(label.fraction, 6) for label in result.summary() if label.pixels}


def segment_batch(items: Sequence[Input], job: Job, crew: Crew, *, sink: events.Sink = events.ignore) -> Records:
    """Segment many inputs; each ends as a line of ``manifest.jsonl``.

    Args:
        items: The inputs.
        job: What to do with them.
        crew: Who does it.
        sink: Hears of progress.

    Returns:
        One record an input, in order; fewer if ``fail_fast`` stopped the run.

    Raises:
        DataError: Another run is writing to the output folder, or files that cover a run are there, but not by one.
    """
    start = time.perf_counter()
    _refuse_foreign(job)
    made = not job.out.exists()
    job.out.mkdir(parents=True, exist_ok=True)
    try:
        with locked(job.out):
            ended, records = _segment_left(items, job, crew, sink)
    except ClippyError:
        if made and not any(job.out.iterdir()):
            job.out.rmdir()  # nothing was done, and a mistake leaves nothing behind
        raise
    sink(replace(ended, seconds=time.perf_counter() - start))
    return records


def _refuse_foreign(job: Job) -> None:
    """Refuse to begin where files that cover the run would be written over somebody else's."""
    refuse_foreign(job.out / MANIFEST, [b'{"input": '])
    for name in RUN_FILES.keys() & set(job.writers):
        refuse_foreign(job.out / RUN_FILES[name], *RUN_KINDS[name])


def _segment_left(
    items: Sequence[Input], job: Job, crew: Crew, sink: events.Sink
) -> tuple[events.BatchFinished, Records]:
    manifest = Manifest(job.out, job.digest())
    take_over(manifest)
    left = [item for item in items if not _is_finished(item, job, manifest)]
    skipped = {item.source for item in items} - {item.source for item in left}
    sink(events.BatchStarted(len(items), len(skipped)))
    _clean(job, left)
    counts: Counter[str] = Counter()

    def done(record: Record) -> bool:
        if record.status == BEGUN:
            manifest.withdraw(record.input, record.outputs)
            return True
        record = manifest.append(record)
        counts[record.status] += 1
        sink(events.ItemFinished(record.input, record.status, record.error, record.seconds, tuple(record.notes)))
        return not (job.fail_fast and record.status == FAILED)

    def begun(item: Input) -> None:
        manifest.withdraw(item.source, planned(item, job))

    try:
        crew(Work(left, job, len(items), done, sink, begun))
    finally:
        manifest.commit()
        tidy(job.out)
    _clean(job, left)  # of processes that were lost on the way
    records = manifest.rewrite((item.source for item in items), skipped)
    files = _of_the_run(job, records)
    return events.BatchFinished(counts[OK], counts[FAILED], len(skipped), 0.0, tuple(files)), records


def _clean(job: Job, items: Sequence[Input]) -> None:
    """Remove temporary files wherever outputs of these inputs go."""
    frames = (job.out / item.stem for item in items if item.kind == VIDEO)
    for folder in {job.out, *(job.out / item.stem.parent for item in items), *frames}:
        for place in (folder, *(folder / FRAGMENTS / writer for writer in job.writers)):
            remove_leftovers(place)


def _is_finished(item: Input, job: Job, manifest: Manifest) -> bool:
    # What comes through a pipe today is not what came yesterday.
    if job.overwrite or item.source == STDIN or item.fault:
        return False
    return manifest.finished(item.source, item.stem.as_posix()) is not None


def _of_the_run(job: Job, records: Sequence[Record]) -> list[Path]:
    """Write the files that cover the whole run."""
    from clippy_core.segmentation.writers.collected import collect

    files = collect(job.out, job.writers, records)
    if job.summary:
        from clippy_core.segmentation.summary.report import write_summary

        files += write_summary(job.out, records)
    return files
