"""Many pictures, unattended: one bad picture is one line, and what is finished stays finished."""

import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from clippy_core import events
from clippy_core.errors import DataError
from clippy_core.files import remove_leftovers
from clippy_core.prompts import Label
from clippy_core.segmentation.inputs import STDIN, Input
from clippy_core.segmentation.manifest import FAILED, OK, SKIPPED, Manifest, Record, digest
from clippy_core.segmentation.options import SegmentOptions

if TYPE_CHECKING:
    from clippy_core.segmentation.result import Segmentation
    from clippy_core.segmentation.segmenter import Segmenter


@dataclass(frozen=True)
class Job:
    """What to do with every picture of a run.

    Attributes:
        labels: What to look for.
        options: How.
        model: Name or path of the model; only told apart, never opened.
        out: Output folder.
        writers: Names of the outputs to write.
        overwrite: Do finished inputs again.
        fail_fast: Stop at the first input that fails.
    """

    labels: tuple[Label, ...]
    options: SegmentOptions
    model: str
    out: Path
    writers: tuple[str, ...]
    overwrite: bool = False
    fail_fast: bool = False

    def digest(self) -> str:
        """A digest of what determines the outputs."""
        settings = asdict(self)
        for name in ("out", "overwrite", "fail_fast"):
            settings.pop(name)
        return digest(settings)


def segment_one(
    segmenter: "Segmenter", item: Input, job: Job, *, images_ahead: int = 1
) -> "tuple[Segmentation, list[Path]]":
    """Segment one picture and write its outputs.

    Raises:
        ImageError: The picture cannot be used.
        OSError: The outputs cannot be written.
    """
    source = sys.stdin.buffer if item.source == STDIN else item.source
    result = segmenter.segment(source, job.labels, job.options, images_ahead=images_ahead)
    return result, result.save(job.out / item.stem, job.writers)


def segment_batch(
    load: "Callable[[], Segmenter]",
    items: Sequence[Input],
    job: Job,
    *,
    sink: events.Sink = events.ignore,
    on_result: "Callable[[Segmentation], None]" = lambda result: None,
) -> list[Record]:
    """Segment many pictures; each ends as a line of ``manifest.jsonl``.

    Args:
        load: Gives the model; called only if something is left to do.
        items: The pictures.
        job: What to do with them.
        sink: Hears of progress.
        on_result: Hears of every picture that was segmented.

    Returns:
        One record an input, in order; fewer if ``fail_fast`` stopped the run.
    """
    start = time.perf_counter()
    manifest = Manifest(job.out, job.digest())
    records: dict[str, Record] = {}
    for item in items:
        # What comes through a pipe today is not what came yesterday.
        again = job.overwrite or item.source == STDIN
        finished = None if again else manifest.finished(item.source)
        if finished is not None:
            records[item.source] = replace(finished, status=SKIPPED)
    left = [item for item in items if item.source not in records]
    sink(events.BatchStarted(len(items), len(records)))
    for folder in {job.out, *(job.out / item.stem.parent for item in left)}:
        remove_leftovers(folder)
    segmenter = load() if left else None
    for index, item in enumerate(left):
        assert segmenter is not None, "loaded whenever something is left"
        record = _attempt(segmenter, item, job, manifest.run, len(left) - index, on_result)
        manifest.append(record)
        records[item.source] = record
        sink(events.ItemFinished(item.source, record.status, record.error, record.seconds))
        if record.status == FAILED and job.fail_fast:
            break
    manifest.rewrite(item.source for item in items)
    counts = Counter(record.status for record in records.values())
    sink(events.BatchFinished(counts[OK], counts[FAILED], counts[SKIPPED], time.perf_counter() - start))
    return [records[item.source] for item in items if item.source in records]


def _attempt(
    segmenter: "Segmenter",
    item: Input,
    job: Job,
    run: str,
    images_ahead: int,
    on_result: "Callable[[Segmentation], None]",
) -> Record:
    start = time.perf_counter()
    try:
        result, files = segment_one(segmenter, item, job, images_ahead=images_ahead)
    except (DataError, OSError) as error:
        reason = " ".join(str(error).split())
        return Record(item.source, FAILED, error=reason, run=run, seconds=_since(start))
    on_result(result)
    outputs = [str(file.relative_to(job.out)) for file in files]
    return Record(item.source, OK, outputs, run=run, seconds=_since(start))


def _since(start: float) -> float:
    return round(time.perf_counter() - start, 4)
