"""Several processes of one machine that share a run: one a GPU, or some on the CPU.

Inputs are dealt out in chunks by :mod:`concurrent.futures`, so that a process with easy ones gets more. What a process
finishes it writes into the chunk's part at once (:mod:`parts`), and this process, which loads no model, reads it there.
So a process that is lost takes nothing with it but what it was working on, and that is done again by another one.
"""

import multiprocessing
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from clippy_core import events
from clippy_core.errors import DeviceError, UsageError
from clippy_core.segmentation.batch.manifest import BEGUN, FAILED, Record
from clippy_core.segmentation.batch.parts import Part, PartReader, part_path
from clippy_core.segmentation.batch.run import Crew, Job, ModelChoice, Work, planned
from clippy_core.segmentation.inputs import STDIN, Input

if TYPE_CHECKING:
    from clippy_core.segmentation.segmenter import Segmenter

LARGEST_CHUNK = 64
CHUNKS_EACH = 8
"""Chunks a process gets at least, so that all end at about the same time."""
MOST_LOSSES = 3
"""How often an input may be in the hands of a process that is lost; the last time it is there alone."""
LOOK_EVERY = 0.2


def several(model: ModelChoice, processes: int, devices: Sequence[str] = ()) -> Crew:
    """A crew of processes on this machine.

    Args:
        model: Which model each of them loads.
        processes: How many.
        devices: Where the model goes in each, such as ``cuda:0``; none for the model's own choice.
    """

    def work(work: Work) -> None:
        if any(item.source == STDIN for item in work.items):
            raise UsageError("standard input (-) can be read by one process only; leave out --gpus and --jobs")
        _Sharing(model, processes, devices, work).run()

    return work


def cut(items: Sequence[Input], workers: int) -> list[Sequence[Input]]:
    """Neighbours together, in as many chunks as keep all workers busy to the end."""
    size = max(1, min(LARGEST_CHUNK, len(items) // (workers * CHUNKS_EACH)))
    return [items[first : first + size] for first in range(0, len(items), size)]


class _Sharing:
    """One run shared; see :func:`several`."""

    def __init__(self, model: ModelChoice, processes: int, devices: Sequence[str], work: Work) -> None:
        self._model, self._processes, self._devices, self._work = model, processes, devices, work
        self._reader = PartReader(work.job.out)
        self._losses: Counter[str] = Counter()
        self._fruitless = self._rounds = 0
        self._go_on = True

    def run(self) -> None:
        """Do all of it, however many processes are lost on the way."""
        chunks = self._named(cut(self._work.items, self._processes))
        while chunks and self._go_on:
            alone = {name: chunk for name, chunk in chunks.items() if self._losses[chunk[0].source] > 1}
            rest = {name: chunk for name, chunk in chunks.items() if name not in alone}
            # Whoever has lost two processes may be at fault, and must not take a neighbour along.
            chunks = {**rest, **self._try(alone, 1)} if alone else self._try(rest, self._processes)

    def _named(self, chunks: Sequence[Sequence[Input]]) -> dict[str, Sequence[Input]]:
        """Chunks by a name that no other has in this run."""
        self._rounds += 1
        return {f"{self._rounds:06d}-{number:07d}": chunk for number, chunk in enumerate(chunks)}

    def _try(self, chunks: dict[str, Sequence[Input]], processes: int) -> dict[str, Sequence[Input]]:
        """Work on chunks until all are done or a process is lost; returns what is left of them."""
        before = sum(map(len, chunks.values()))
        context = multiprocessing.get_context("spawn")
        stop = context.RawValue("b", 0)
        number = context.Value("i", 0)
        setup = _Setup(self._model, tuple(self._devices), self._work.job, self._work.total, processes)
        pool = ProcessPoolExecutor(processes, context, _start, (setup, number, stop))
        lost = False
        try:
            running = {pool.submit(_work_on, name, chunk): name for name, chunk in chunks.items()}
            for name in self._ended(running):
                self._hear(name)
                self._reader.forget(name)
                del chunks[name]
                if not self._go_on:
                    break
        except BrokenProcessPool:
            lost = True
        finally:
            stop.value = 1
            pool.shutdown(wait=True, cancel_futures=True)
            for name in chunks:
                self._hear(name)
        return self._after_a_loss(chunks, before) if lost else chunks

    def _ended(self, running: dict[Future[None], str]) -> Iterator[str]:
        """Names of chunks as they end; meanwhile tells of what is finished in the others."""
        while running:
            ended, _ = wait(running, LOOK_EVERY, FIRST_COMPLETED)
            for future in ended:
                future.result()
                yield running.pop(future)
            for name in list(running.values())[: self._processes + 1]:
                self._hear(name)

    def _hear(self, name: str) -> None:
        """Tell of what was finished in a chunk since it was last looked at."""
        for record in self._reader.news(name):
            if not self._work.done(record):
                self._go_on = False

    def _after_a_loss(self, chunks: dict[str, Sequence[Input]], before: int) -> dict[str, Sequence[Input]]:
        """What is left of ``before`` inputs, those that were in somebody's hands each in a chunk of its own."""
        left: list[Sequence[Input]] = []
        for name, chunk in chunks.items():
            part = part_path(self._work.job.out, name)
            if not part.exists():
                left.append(chunk)
                continue
            opened = Part(self._work.job.out, name)
            opened.close()
            unfinished = [item for item in chunk if item.source not in opened.done]
            self._hear(name)
            self._reader.forget(name)
            for item in unfinished:
                self._losses[item.source] += 1
                if self._losses[item.source] < MOST_LOSSES:
                    left.append([item])
                elif not self._work.done(self._given_up(item)):
                    self._go_on = False
        count = sum(map(len, left))
        self._fruitless = 0 if count < before else self._fruitless + 1
        if self._fruitless == MOST_LOSSES:
            raise DeviceError(
                f"{self._processes} processes: {MOST_LOSSES} times one was lost before a single input was finished "
                "(memory?); try fewer"
            )
        self._work.sink(
            events.Noticed(f"a process was lost (memory?); {count:,} inputs are left and go on in new ones", True)
        )
        return self._named(left)

    def _given_up(self, item: Input) -> Record:
        error = f"{item.source}: the process that worked on it was lost {MOST_LOSSES} times (memory?)"
        return Record(item.source, FAILED, error=error, run=self._work.job.digest())


# --- in the processes ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Setup:
    """What a process is told when it starts."""

    model: ModelChoice
    devices: tuple[str, ...]
    job: Job
    total: int
    processes: int


class _Worker:
    """What a process keeps between chunks."""

    setup: _Setup
    model: ModelChoice
    stop: Any
    segmenter: "Segmenter | None" = None


def _start(setup: _Setup, number: Any, stop: Any) -> None:
    """Prepare a process; the model is loaded with the first chunk, whose failure is told."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the one that leads says when to stop
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // setup.processes)))
    with number.get_lock():
        mine, number.value = number.value, number.value + 1
    device = setup.devices[mine % len(setup.devices)] if setup.devices else setup.model.device
    _Worker.setup, _Worker.stop = setup, stop
    _Worker.model = replace(setup.model, device=device)


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work_on(name: str, chunk: Sequence[Input]) -> None:
    """Work on a chunk, and write what became of it into its part."""
    if _Worker.stop.value:
        return
    if _Worker.segmenter is None:
        _Worker.segmenter = _Worker.model.load()
    setup = _Worker.setup
    run_chunk(_Worker.segmenter, name, chunk, setup.job, setup.total, stopped=lambda: bool(_Worker.stop.value))


def run_chunk(
    segmenter: "Segmenter",
    name: str,
    chunk: Sequence[Input],
    job: Job,
    total: int,
    *,
    stopped: Callable[[], bool] = lambda: False,
) -> None:
    """Do what is left of a chunk; every input is written into its part as soon as it is finished."""
    from clippy_core.segmentation.batch.pipeline import Pipeline

    part = Part(job.out, name)

    def done(record: Record) -> bool:
        part.append(record)
        return not (job.fail_fast and record.status == FAILED)

    def begun(item: Input) -> None:
        part.append(Record(item.source, BEGUN, planned(item, job)))

    try:
        left = [item for item in chunk if item.source not in part.done]
        if left:
            Pipeline(segmenter, Work(left, job, total, done, begun=begun), stopped=stopped).run()
    finally:
        part.close()
