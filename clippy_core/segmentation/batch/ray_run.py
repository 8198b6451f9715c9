"""A run shared by the machines of a Ray cluster, through Ray Data.

Every worker is an actor that loads the model once and takes chunks of the inputs; Ray starts a lost one anew and gives
its chunk to another, who finds in the chunk's part (:mod:`parts`) what was finished. All machines must see the inputs
and the output folder under the same paths.
"""

import logging
import os
import pickle
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any

from clippy_core.errors import ClippyError, DeviceError, UsageError
from clippy_core.segmentation.batch.parts import STOP, PartReader, is_stopped, stop
from clippy_core.segmentation.batch.run import Crew, ModelChoice, Work
from clippy_core.segmentation.batch.sharing import cut, run_chunk
from clippy_core.segmentation.inputs import STDIN, Input

if TYPE_CHECKING:
    import numpy as np

    from clippy_core.segmentation.segmenter import Segmenter

HERE = "ray"
ADDRESS = "ray://"
LOOK_EVERY = 0.2
PARTS = "ray-"
"""How the names of chunks begin."""


def check_address(cluster: str) -> None:
    """Refuse what is no cluster's address.

    Raises:
        UsageError: It is neither ``ray`` nor ``ray://HOST:PORT``.
        DeviceError: Ray is not installed.
    """
    import importlib.util

    host, _, port = cluster.removeprefix(ADDRESS).rpartition(":")
    if cluster != HERE and not (cluster.startswith(ADDRESS) and host and port.isdecimal()):
        raise UsageError(f"--cluster is {cluster!r}; accepted: ray for this machine, ray://HOST:PORT")
    if importlib.util.find_spec("ray") is None:
        raise DeviceError("--cluster needs Ray; pip install 'clippy-vlm[ray]'")


def through_ray(model: ModelChoice, cluster: str, workers: int | None = None, *, gpus: bool = False) -> Crew:
    """A crew of Ray actors.

    Args:
        model: Which model each of them loads.
        cluster: ``ray`` for a cluster on this machine that lives as long as the run, or ``ray://HOST:PORT``.
        workers: How many; None for one a CPU, or one a GPU.
        gpus: Whether each takes a GPU to itself.
    """

    def work(work: Work) -> None:
        if any(item.source == STDIN for item in work.items):
            raise UsageError("standard input (-) can be read by one process only; leave out --cluster")
        if not work.items:
            return
        with _connected(cluster, workers, gpus=gpus) as room:
            _share(model, room, work, gpus=gpus)

    return work


def _share(model: ModelChoice, workers: int, work: Work, *, gpus: bool) -> None:
    """Deal out the chunks, and tell of what is finished while it is going on."""
    chunks = dict(zip((f"{PARTS}{number:07d}" for number in count()), cut(work.items, workers), strict=False))
    ended: SimpleQueue[tuple[str, bytes] | BaseException | None] = SimpleQueue()
    dealing = Thread(target=_deal, args=(model, chunks, workers, work, ended), kwargs={"gpus": gpus}, daemon=True)
    reader = PartReader(work.job.out)
    try:
        with _stopped_at_the_end(work.job.out, dealing):
            _follow(reader, work, ended)
    finally:
        _hear(reader, work)
        for part in reader.names(PARTS):
            reader.forget(part)


def _follow(reader: PartReader, work: Work, ended: "SimpleQueue[tuple[str, bytes] | BaseException | None]") -> None:
    """Tell of what is finished, until everything is or an error says that nothing more will be."""
    go_on = True
    while go_on:
        try:
            news = ended.get(timeout=LOOK_EVERY)
        except Empty:
            news = ("", b"")
        if isinstance(news, BaseException):
            raise DeviceError(f"--cluster: Ray gave up ({_first_line(news)})") from news
        if news is None:
            break
        name, error = news
        if error:
            raise pickle.loads(error)
        go_on = _hear(reader, work)
        if name:
            reader.forget(name)


def _hear(reader: PartReader, work: Work) -> bool:
    """Tell of what was finished since the last time; whether to go on."""
    go_on = True
    for part in reader.names(PARTS):
        for record in reader.news(part):
            go_on = work.done(record) and go_on
    return go_on


@contextmanager
def _stopped_at_the_end(out: Path, dealing: Thread) -> Iterator[None]:
    """Run the thread that deals out, and leave only once it is over, however this ends.

    Ray ends the whole process, with exit code 1 and no word, if a thread still asks it for something when it is shut
    down. A file tells the workers, wherever they are, to begin nothing more; what they have begun is waited for.
    """
    dealing.start()
    try:
        yield
    finally:
        stop(out)
        dealing.join()
        (out / STOP).unlink(missing_ok=True)


def _deal(
    model: ModelChoice, chunks: dict[str, Sequence[Input]], workers: int, work: Work, ended: Any, *, gpus: bool
) -> None:
    import ray.data  # pyright: ignore[reportMissingImports]

    # Told with every chunk: an actor that is made with arguments cannot be started again once Ray has dropped them.
    setup = (model, work.job, work.total, str(Path.cwd()))
    rows = [{"name": name, "work": pickle.dumps((*setup, chunk))} for name, chunk in chunks.items()]
    try:
        done = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
            Worker,
            batch_size=1,
            concurrency=min(workers, len(rows)),
            num_gpus=1 if gpus else 0,
            num_cpus=1,
        )
        for row in done.iter_rows():
            ended.put((row["name"], row["error"]))
        ended.put(None)
    except BaseException as error:
        # Whatever Ray raises belongs to whoever waits for it.
        ended.put(error)


class Worker:
    """What a Ray actor does: the model is loaded once, chunks come one after another."""

    def __init__(self) -> None:
        self._segmenter: Segmenter | None = None

    def __call__(self, batch: "dict[str, np.ndarray]") -> dict[str, list[Any]]:
        """Do the chunks of a batch; gives their names back, and errors that are the user's."""
        errors = []
        for name, pickled in zip(batch["name"], batch["work"], strict=True):
            model, job, total, folder, chunk = pickle.loads(pickled)
            os.chdir(folder)  # where relative paths begin
            errors.append(b"")
            if is_stopped(job.out):
                continue
            try:
                segmenter = self._segmenter = self._segmenter or model.load()
                run_chunk(segmenter, str(name), chunk, job, total, stopped=partial(is_stopped, job.out))
            except ClippyError as error:
                errors[-1] = pickle.dumps(error)
        return {"name": list(batch["name"]), "error": errors}


@contextmanager
def _connected(cluster: str, workers: int | None, *, gpus: bool) -> Iterator[int]:
    """The number of workers there is room for, while the cluster is connected.

    Raises:
        DeviceError: The cluster does not answer.
    """
    # Its own reports would bury ours, and its progress bars would fill a log.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray  # pyright: ignore[reportMissingImports]
    from ray.data import DataContext  # pyright: ignore[reportMissingImports]

    quiet = {"logging_level": logging.ERROR, "log_to_driver": False}
    try:
        if cluster == HERE:
            ray.init(num_cpus=workers, include_dashboard=False, **quiet)
        else:
            ray.init(cluster, **quiet)
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        raise DeviceError(f"--cluster {cluster}: cannot be reached ({_first_line(error)})") from error
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    DataContext.get_current().enable_progress_bars = False
    try:
        room = int(ray.cluster_resources().get("GPU" if gpus else "CPU", 0))
        if gpus and room < (workers or 1):
            raise DeviceError(f"--gpus {workers or 1}: the cluster has {room}; --jobs N takes CPUs")
        yield workers or max(1, room)
    finally:
        ray.shutdown()


def _first_line(error: BaseException) -> str:
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__
