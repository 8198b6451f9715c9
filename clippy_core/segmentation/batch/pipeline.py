"""Reading, computing and writing at the same time, in one process.

Threads read and decode pictures ahead of the model, and threads draw, encode and write behind it; decoders, encoders
and the model all let go of Python's lock while they compute. Both sides are bounded, by number and by pixels, so that
whatever is slowest holds up the others and memory stays flat.

On a CPU every picture has a forward pass of its own: batching gains nothing there for pictures of normal size, and what
comes out of matrix products of another height may differ in the last bit, so that a label could depend on which
pictures happened to be ready together. On a GPU pictures of one size share a pass.

Shapes: P location, D embedding, H/W pixel, 3 colours.
"""

import os
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from clippy_core import events
from clippy_core.errors import DataError
from clippy_core.segmentation.batch.manifest import FAILED, Record, failed
from clippy_core.segmentation.batch.reading import UNSIZED, Read, Reader, one_line
from clippy_core.segmentation.batch.run import Work, finished, shares
from clippy_core.segmentation.inputs import Input

if TYPE_CHECKING:
    from clippy_core.segmentation.result import Segmentation
    from clippy_core.segmentation.segmenter import Segmenter

READERS, WRITERS = 4, 4
"""Threads on either side of the model. There are no more readers than cores, because they compute; writers spend most
of their time waiting for the disk to have what they wrote."""
AHEAD, BEHIND = 3, 2
"""Pictures that may wait on either side for each thread there."""
GPU_BATCH = 16
PATIENCE = 0.01
"""Seconds to wait for a batch to fill up while nothing else can be done."""
OBSERVED_EVERY = 0.5
SWITCH_INTERVAL = 0.001
"""Seconds a thread may keep Python's lock when another wants it. The model asks for it a hundred times a picture, and
with Python's own 0.005 each time may cost it that long."""


@dataclass(frozen=True, slots=True)
class _Written:
    """An input that has left the pipeline; the result is kept only if somebody wants to see it."""

    record: Record
    result: "Segmentation | None" = None


class Pipeline:
    """The work of one process.

    Args:
        segmenter: The model.
        work: What to do, and who hears of it.
        on_result: Hears of every picture that was segmented, before its outputs are dropped.
        stopped: Asked before another input is begun; if true, the pictures that were begun are finished and the run
            ends. A video may be hours long, so that it is asked before every frame, and the next run begins it anew.
    """

    def __init__(
        self,
        segmenter: "Segmenter",
        work: Work,
        *,
        on_result: "Callable[[Segmentation], None] | None" = None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self._segmenter, self._work, self._job = segmenter, work, work.job
        self._on_result, self._stopped = on_result, stopped
        self._embeddings = segmenter.embed_labels(self._job.labels, self._job.options)
        overlap = not self._job.fail_fast
        self._threads = min(READERS, os.cpu_count() or 1) if overlap else 1
        self._ahead = AHEAD * self._threads if overlap else 1
        self._behind = BEHIND * WRITERS if overlap else 1
        self._batch = self._batch_size()
        self._left: Iterator[Input] = iter(work.items)
        self._arrived: SimpleQueue[Future[Read]] = SimpleQueue()
        self._written: SimpleQueue[Future[_Written]] = SimpleQueue()
        self._ready: OrderedDict[tuple[int, int], list[Read]] = OrderedDict()
        self._reading = self._writing = 0
        self._reader = Reader(segmenter, self._job.options)
        self._waited = {"reading": 0.0, "writing": 0.0}
        self._observed_at = time.perf_counter()
        self._run = self._job.digest()
        self._go_on = True

    def run(self) -> None:
        """Do the work; an exception leaves what was begun finished and told of.

        Raises:
            UsageError: The labels or options cannot be used.
        """
        with (
            _switching_often(),
            ThreadPoolExecutor(self._threads, "clippy-read") as readers,
            ThreadPoolExecutor(WRITERS, "clippy-write") as writers,
        ):
            self._readers, self._writers = readers, writers
            try:
                while batch := self._next_batch():
                    self._compute(batch)
                    self._collect(self._behind - 1 if not self._job.fail_fast else 0)
                    self._observe()
            finally:
                self._reader.room.close()
                readers.shutdown(wait=False, cancel_futures=True)
                self._collect(0)

    def _batch_size(self) -> int:
        on_gpu = self._segmenter.placement.device.type == "cuda"
        one_by_one = self._job.options.windows is not None or self._job.fail_fast
        return 1 if one_by_one else self._job.batch or (GPU_BATCH if on_gpu else 1)

    # --- before the model ---

    def _read_ahead(self) -> None:
        """Begin to read as many inputs as there is room for."""
        waiting = self._reading + sum(map(len, self._ready.values()))
        while self._go_on and waiting < self._ahead + self._batch - 1:
            item = None if self._stopped() else next(self._left, None)
            if item is None:
                self._go_on = False
                return
            self._readers.submit(self._reader.read, item).add_done_callback(self._arrived.put)
            self._reading += 1
            waiting += 1

    def _next_batch(self) -> list[Read]:
        """Inputs to work on next: pictures of one size, or one other input; nothing if all is done."""
        while True:
            self._read_ahead()
            fullest = max(self._ready, key=lambda size: len(self._ready[size]), default=None)
            if fullest is not None and len(self._ready[fullest]) >= self._most(fullest):
                return self._take(fullest)
            if not self._reading:
                return self._take(next(iter(self._ready))) if self._ready else []
            start = time.perf_counter()
            try:
                future = self._arrived.get(timeout=PATIENCE if self._ready else None)
            except Empty:
                return self._take(next(iter(self._ready)))
            finally:
                self._waited["reading"] += time.perf_counter() - start
            self._reading -= 1
            read = future.result()
            if read.picture is None:
                return [read]
            self._ready.setdefault(read.size, []).append(read)

    def _take(self, size: tuple[int, int]) -> list[Read]:
        group, most = self._ready.pop(size), self._most(size)
        if len(group) > most:
            self._ready[size] = group[most:]
        return group[:most]

    def _most(self, size: tuple[int, int]) -> int:
        return 1 if size == UNSIZED else self._batch

    # --- the model ---

    def _compute(self, batch: list[Read]) -> None:
        first = batch[0]
        if first.error is not None:
            self._done(Record(first.item.source, FAILED, error=first.error, seconds=first.seconds))
        elif first.picture is not None:
            self._encode_and_go_on(batch)
        elif record := self._label_video(first.item):
            self._done(record)

    def _encode_and_go_on(self, batch: list[Read]) -> None:
        start = time.perf_counter()
        try:
            features = self._encode(batch)
        except (RuntimeError, MemoryError) as error:
            if not _is_about_memory(error):
                raise
            self._in_halves(batch)
            return
        each = (time.perf_counter() - start) / len(batch)
        for read, (features_PD, grid) in zip(batch, features, strict=True):
            read = replace(read, seconds=read.seconds + each, model_input_HW3=None)
            self._work.begun(read.item)
            self._writers.submit(self._finish, read, features_PD, grid).add_done_callback(self._written.put)
            self._writing += 1

    def _in_halves(self, batch: list[Read]) -> None:
        """What does not fit into memory together may fit in parts; one that does not fit alone has failed."""
        if len(batch) == 1:
            (read,) = batch
            self._reader.room.leave(read.pixels)
            error = f"{read.item.source}: does not fit into memory; a smaller --size or --window does"
            self._done(Record(read.item.source, FAILED, error=error, seconds=read.seconds))
            return
        half = self._batch = len(batch) // 2
        for first in range(0, len(batch), half):
            self._encode_and_go_on(batch[first : first + half])

    def _encode(self, batch: list[Read]) -> list[tuple[Any, tuple[int, int]]]:
        inputs = [read.model_input_HW3 for read in batch if read.model_input_HW3 is not None]
        options, size = self._job.options, batch[0].size
        if size != UNSIZED:
            options = replace(options, size=min(size))
        if len(inputs) == 1:
            return [self._segmenter.encode(inputs[0], options)]
        embedding = self._segmenter.encode_batch(inputs, options)
        return [(features_PD, embedding.grid) for features_PD in embedding.patches_BPD]

    def _label_video(self, item: Input) -> Record | None:
        """What became of a video; nothing if the run was told to stop before its end."""
        from clippy_core.segmentation.video.labelling import Stopped, label_video

        start = time.perf_counter()
        self._work.begun(item)
        try:
            video = label_video(self._segmenter, item, self._job, self._job.fps, self._stopped)
            record = finished(item, self._job, video.files, labels=video.shares, notes=list(video.notes))
            if video.error is not None:
                record = failed(record, one_line(video.error, item.source))
        except Stopped:
            return None
        except (DataError, OSError) as error:
            record = Record(item.source, FAILED, error=one_line(error, item.source))
        return replace(record, seconds=time.perf_counter() - start)

    # --- after the model ---

    def _finish(self, read: Read, features_PD: Any, grid: tuple[int, int]) -> _Written:
        """Label, draw, encode and write one picture."""
        assert read.picture is not None, "only pictures come here"
        start = time.perf_counter()
        source = read.item.source
        result = self._segmenter.finish(
            read.picture,
            features_PD,
            grid,
            self._embeddings,
            self._job.options,
            images_ahead=self._work.total,
            source=source,
        )
        # How long it took differs from run to run, and a repeated run is to leave the same bytes.
        result = replace(result, seconds={})
        try:
            files = result.save(self._job.out / read.item.stem, self._job.writers)
            notes = list(result.picture.notes)
            record = finished(read.item, self._job, files, labels=shares(result), notes=notes)
        except (DataError, OSError) as error:
            record = Record(source, FAILED, error=one_line(error, source))
        record = replace(record, seconds=read.seconds + time.perf_counter() - start)
        self._reader.room.leave(read.pixels)
        return _Written(record, result if self._on_result else None)

    def _collect(self, until: int) -> None:
        """Tell of what was written; wait until at most so many are on their way."""
        start = time.perf_counter()
        while self._writing:
            try:
                future = self._written.get(block=self._writing > until)
            except Empty:
                break
            self._writing -= 1
            written = future.result()
            if written.result is not None and self._on_result is not None:
                self._on_result(written.result)
            self._done(written.record)
        self._waited["writing"] += time.perf_counter() - start

    def _done(self, record: Record) -> None:
        record = replace(record, run=self._run, seconds=round(record.seconds, 4))
        if not self._work.done(record):
            self._go_on = False

    def _observe(self) -> None:
        """Tell now and then which stage holds up the others."""
        now = time.perf_counter()
        elapsed = now - self._observed_at
        if elapsed < OBSERVED_EVERY:
            return
        waited = dict(self._waited)
        computed = elapsed - sum(waited.values())
        limit = max(("model", computed), *waited.items(), key=lambda stage: stage[1])[0]
        ready = self._reading, sum(map(len, self._ready.values()))
        self._work.sink(events.StagesObserved(limit, *ready, self._writing))
        self._waited = dict.fromkeys(waited, 0.0)
        self._observed_at = now


@contextmanager
def _switching_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_INTERVAL)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def _is_about_memory(error: Exception) -> bool:
    # torch has a class for it on a GPU and only a sentence on the CPU.
    names = {kind.__name__ for kind in type(error).__mro__}
    return bool(names & {"OutOfMemoryError", "MemoryError"}) or "not enough memory" in str(error)
