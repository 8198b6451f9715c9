"""A run shared by processes that torchrun has started, on one machine or on several that share a file system.

The first process decides what is left to do and tells the others; each takes its share and writes what it finishes
into a part of its own, from which the first one writes the manifest. If one is lost, torchrun ends the others and, with
``--max-restarts``, starts all of them again; the same command goes on from there.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from clippy_core.meeting import meeting, watching
from clippy_core.segmentation.batch.manifest import Record
from clippy_core.segmentation.batch.parts import STOP, PartReader, is_stopped, stop
from clippy_core.segmentation.batch.run import Crew, Job, Work
from clippy_core.segmentation.batch.sharing import run_chunk

if TYPE_CHECKING:
    from clippy_core.segmentation.segmenter import Segmenter

LONGEST = timedelta(days=30)
"""How long one process waits for another; a lost one is noticed by torchrun, which ends those that wait."""
LOOK_EVERY = 0.2


def leading(load: "Callable[[], Segmenter]") -> Crew:
    """The crew of the first process: itself and all the others."""

    def work(work: Work) -> None:
        with meeting(LONGEST) as (rank, world):
            _share((list(work.items), work.total))
            _lead(load, work, rank, world)

    return work


def follow(load: "Callable[[], Segmenter]", job: Job) -> None:
    """Take the share of a process that is not the first.

    Raises:
        UsageError: The labels or options cannot be used.
        LostProcessError: Another process was lost.
    """
    with meeting(LONGEST) as (rank, world):
        items, total = _share(None)
        mine = items[rank::world]
        if mine:
            run_chunk(load(), _name(rank), mine, job, total, stopped=partial(is_stopped, job.out))
        _wait_for(_arrive())


def _lead(load: "Callable[[], Segmenter]", work: Work, rank: int, world: int) -> None:
    out = work.job.out
    reader = PartReader(out)
    looked_at = time.monotonic()

    def tell(record: Record) -> None:
        if not work.done(record):
            stop(out)

    def listen() -> None:
        nonlocal looked_at
        looked_at = time.monotonic()
        for other in range(world):
            for record in reader.news(_name(other)):
                tell(record)

    def done(record: Record) -> bool:
        if time.monotonic() - looked_at > LOOK_EVERY:
            listen()
        tell(record)
        return not is_stopped(out)

    mine = work.items[rank::world]
    if mine:
        from clippy_core.segmentation.batch.pipeline import Pipeline

        Pipeline(load(), replace(work, items=mine, done=done)).run()
    everybody = _arrive()
    while not everybody.is_completed():
        listen()
        time.sleep(LOOK_EVERY)
    _wait_for(everybody)
    listen()
    for other in range(world):
        reader.forget(_name(other))
    (out / STOP).unlink(missing_ok=True)


def _name(rank: int) -> str:
    return f"rank-{rank:05d}"


def _share(what: Any) -> Any:
    """What the first process has, given to all."""
    import torch.distributed as dist

    several = [what]
    with watching():
        dist.broadcast_object_list(several, src=0)
    return several[0]


def _arrive() -> Any:
    """Say that this process is done; what comes back is completed when all are."""
    import torch.distributed as dist

    with watching():
        return dist.barrier(async_op=True)


def _wait_for(everybody: Any) -> None:
    with watching():
        everybody.wait()
