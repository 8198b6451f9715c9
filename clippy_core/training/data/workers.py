"""Worker processes that read ahead, keep the order, and die with the training process but never before it."""

import atexit
import multiprocessing
import multiprocessing.forkserver
import multiprocessing.resource_tracker
import signal
import threading
import warnings
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing.process import BaseProcess
from typing import Any

import torch
from torch.utils.data import DataLoader

from clippy_core.errors import ClippyError, DataError
from clippy_core.training.data import Batch
from clippy_core.training.data.reader import Reader, Task, prepare_worker

_BUS_ERROR = getattr(signal, "SIGBUS", 0)


def read_ahead(reader: Reader, tasks: Iterable[Task], workers: int, ahead: int) -> Generator[Batch, None, None]:
    """What ``reader`` makes of each task, in order.

    Args:
        reader: Goes to the workers once, pickled.
        tasks: May be endless; taken from only as far ahead as there is room for.
        workers: Processes; 0 reads here, when asked.
        ahead: Batches that each worker keeps ready.

    Raises:
        DataError: As :class:`Reader`, or a worker died; one line.
    """
    if workers == 0:
        for task in tasks:
            yield _checked(reader[task])
        return
    with _processes(reader, tasks, workers, ahead) as (batches, processes):
        while True:
            try:
                batch = next(batches)
            except StopIteration:
                return
            except (RuntimeError, OSError, EOFError) as error:
                raise _death_of(processes) or error from error
            yield _checked(batch)


def _checked(batch: Batch | ClippyError) -> Batch:
    if isinstance(batch, ClippyError):
        raise batch
    return batch


def _death_of(processes: list[BaseProcess]) -> DataError | None:
    for process in processes:
        process.join(0.2)
        if process.exitcode not in (None, 0):
            how = f"signal {-process.exitcode}" if process.exitcode < 0 else f"exit code {process.exitcode}"
            # A write to shared memory that is full ends so.
            memory = "shared memory (/dev/shm)" if how == f"signal {int(_BUS_ERROR)}" else "memory"
            return DataError(
                f"a process that reads training data ({process.pid}) ended by {how}; if {memory} ran out, use fewer "
                "--workers or a smaller batch"
            )
    return None


@contextmanager
def _processes(
    reader: Reader, tasks: Iterable[Task], workers: int, ahead: int
) -> Iterator[tuple[Iterator[Any], list[BaseProcess]]]:
    """The workers and what comes out of them; at the end of the block none is left."""
    _start_server()
    before = set(multiprocessing.active_children())
    with warnings.catch_warnings(), _signal_kept("SIGCHLD"):
        # PyTorch advises on the number of workers, and would raise in the middle of anything when one dies: here
        # that is noticed when the next batch is asked for.
        warnings.simplefilter("ignore")
        batches = iter(
            DataLoader(
                reader,  # type: ignore[arg-type]
                sampler=tasks,
                batch_size=None,
                num_workers=workers,
                prefetch_factor=ahead,
                collate_fn=_as_is,
                worker_init_fn=prepare_worker,
                multiprocessing_context=_start_method(),
                # The iterator draws a number at its start, which must not come from the run's own generator.
                generator=torch.Generator(),
            )
        )
    processes = sorted(set(multiprocessing.active_children()) - before, key=lambda process: process.pid or 0)
    end = partial(_end, processes)
    # At the end of the interpreter others would wait for these processes, which nobody told to stop.
    atexit.register(end)
    try:
        yield batches, processes
    finally:
        end()
        atexit.unregister(end)
        # A worker may have been killed while it held the lock of the shared event that PyTorch sets when the iterator
        # goes, which would then wait for ever; nobody is left to hear of the event.
        batches._workers_done_event = threading.Event()  # type: ignore[attr-defined]


def _as_is(batch: Any) -> Any:
    return batch


def _end(processes: list[BaseProcess]) -> None:
    """They have nothing to lose, and politer signals they do not hear."""
    for process in processes:
        if process.is_alive():
            process.kill()
    for process in processes:
        process.join()


def _start_method() -> str:
    """Never a plain fork: a copy of a process with threads and a GPU does not work reliably."""
    return "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"


def _start_server() -> None:
    """Start the process that workers are forked from: it has imported PyTorch once, and signals do not reach it.

    What is ignored and blocked here while it starts is so there and in the workers, from their first instruction on;
    blocked, because PyTorch gives workers a handler for SIGTERM before :func:`prepare_worker` can take it away again.
    """
    if _start_method() != "forkserver":
        return
    multiprocessing.forkserver.set_forkserver_preload([Reader.__module__])
    multiprocessing.resource_tracker.ensure_running()  # the server would start it, and that unblocks signals
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    try:
        with _signal_kept("SIGTERM", signal.SIG_IGN), _signal_kept("SIGINT", signal.SIG_IGN):
            multiprocessing.forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _signal_kept(name: str, meanwhile: Any = None) -> Iterator[None]:
    """Whatever the block does to a signal's handler is undone; ``meanwhile`` is in its place."""
    number = getattr(signal, name, None)
    if number is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.getsignal(number)
    if meanwhile is not None:
        signal.signal(number, meanwhile)
    try:
        yield
    finally:
        signal.signal(number, signal.SIG_DFL if handler is None else handler)
