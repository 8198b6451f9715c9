"""How ``clippy segment`` runs: one picture, one to standard output, or many, shared or not."""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from clippy_cli import console

if TYPE_CHECKING:
    from clippy_core.segmentation.batch.run import Crew, Job, ModelChoice
    from clippy_core.segmentation.inputs import Input
    from clippy_core.segmentation.result import Segmentation
    from clippy_core.segmentation.segmenter import Segmenter

PARTIAL, DATA = 3, 4


def is_shared_from_outside() -> bool:
    """Whether torchrun has started this process as one of several."""
    from clippy_core.launch import is_one_of_several, launched_as

    return is_one_of_several() and launched_as() != (1, 1)


@dataclass(frozen=True)
class Sharing:
    """Who does the work, as it was typed; None for what was not.

    Attributes:
        gpus: How many GPUs, a process each; 0 for the CPU.
        jobs: How many processes on the CPU.
        cluster: A Ray cluster.
    """

    gpus: int | None = None
    jobs: int | None = None
    cluster: str | None = None

    @property
    def several(self) -> bool:
        """Whether further processes are asked for."""
        return (self.gpus or 1) > 1 or (self.jobs or 1) > 1 or self.cluster is not None

    def check(self, device: str, *, show: bool) -> None:
        """Refuse what does not go together or is not there, before anything is loaded.

        Raises:
            UsageError: Options that exclude each other, or a cluster's address that is none.
            DeviceError: Fewer GPUs than asked for, or Ray is missing.
        """
        from clippy_cli.processes import require_gpus
        from clippy_core.errors import UsageError

        asked = self.gpus is not None or self.jobs is not None or self.cluster is not None
        if asked and is_shared_from_outside():
            raise UsageError("torchrun decides how many processes there are; leave out --gpus, --jobs and --cluster")
        if self.gpus and self.jobs is not None:
            raise UsageError("--gpus and --jobs exclude each other: a process has a GPU or works on the CPU")
        if self.jobs is not None and device.startswith("cuda"):
            raise UsageError(f"--jobs are processes on the CPU, --device is {device}; accepted: --gpus N for GPUs")
        if self.gpus and device not in ("auto", "cuda"):
            raise UsageError(f"--gpus {self.gpus} and --device {device} exclude each other")
        if self.gpus == 0 and device.startswith("cuda"):
            raise UsageError(f"--gpus 0 is the CPU, --device is {device}; leave one of them out")
        if show and (self.several or is_shared_from_outside()):
            raise UsageError("--show goes with one process only; leave out --gpus, --jobs and --cluster")
        if self.cluster is not None:
            from clippy_core.segmentation.batch.ray_run import check_address

            check_address(self.cluster)
        elif self.gpus:
            require_gpus(self.gpus, "--jobs N works in N processes on the CPU")

    def placed(self, choice: "ModelChoice") -> "ModelChoice":
        """The model where these options put it."""
        if self.gpus:
            return replace(choice, device="cuda:0" if self.gpus == 1 and self.cluster is None else "cuda")
        if self.gpus == 0 or (self.jobs is not None and choice.device == "auto"):
            return replace(choice, device="cpu")
        return choice

    def crew(self, choice: "ModelChoice") -> "Crew | None":
        """Further processes that do the work; None if this one does it."""
        choice = self.placed(choice)
        if self.cluster is not None:
            from clippy_core.segmentation.batch.ray_run import through_ray

            return through_ray(choice, self.cluster, self.gpus or self.jobs, gpus=bool(self.gpus))
        if not self.several:
            return None
        from clippy_core.segmentation.batch.sharing import several

        devices = [f"cuda:{number}" for number in range(self.gpus or 0)]
        return several(choice, self.gpus or self.jobs or 1, devices)


def segment(
    inputs: Sequence[str],
    job: "Job",
    choice: "ModelChoice",
    sharing: Sharing,
    started: float,
    *,
    show: bool,
    json: bool,
) -> int:
    """Segment one picture or many; returns the exit code."""
    from clippy_cli import render
    from clippy_core.launch import is_leader
    from clippy_core.segmentation.inputs import VIDEO, find_inputs

    shared = is_shared_from_outside()
    if shared:
        choice = _own_device(choice)
        if not is_leader():
            from clippy_core.segmentation.batch.ranks import follow

            console.Settings.verbosity = console.QUIET
            follow(lambda: _load(choice), job)
            return 0
    items = find_inputs(inputs, job.out, job.writers)
    show = show and render.can_show(to_messages=json)
    single = len(items) == 1 and items[0].source == inputs[0]
    if single and items[0].kind != VIDEO and not shared:
        return _one(sharing.placed(choice), items[0], job, started, show=show, json=json)
    return _many(items, job, choice, sharing, single=single, show=show, json=json)


def to_stdout(inputs: Sequence[str], job: "Job", choice: "ModelChoice", *, show: bool) -> int:
    """Segment one picture and write one output to standard output; returns the exit code."""
    from clippy_cli import render
    from clippy_core.errors import UsageError
    from clippy_core.segmentation.inputs import VIDEO, find_inputs
    from clippy_core.segmentation.writers.stream import KINDS, picture_bytes

    (kind,) = job.writers
    if kind not in KINDS:
        raise UsageError(f"--save {kind} is not one picture; accepted with --out -: {', '.join(KINDS)}")
    items = find_inputs(inputs, job.out, job.writers)
    if len(items) != 1 or items[0].kind == VIDEO:
        found = "this is a video" if len(items) == 1 else f"there are {len(items):,} inputs"
        raise UsageError(f"--out - writes one picture to standard output, but {found}; accepted: --out DIR")
    show = show and render.can_show(to_messages=True)
    _must_exist(items[0])
    result = _load(choice).segment(items[0].open(), job.labels, job.options)
    data = picture_bytes(result, kind)
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        console.give_up(sys.stdout)
    _say_notes(items[0], result)
    if show:
        render.show(result, to_messages=True)
    return 0


def _one(choice: "ModelChoice", item: "Input", job: "Job", started: float, *, show: bool, json: bool) -> int:
    from clippy_cli import render
    from clippy_core.segmentation.batch.run import segment_one

    _must_exist(item)
    segmenter = _load(choice)
    seconds = {"load": time.perf_counter() - started}
    result, files = segment_one(segmenter, item, job)
    seconds |= result.seconds
    seconds["write"] = time.perf_counter() - started - sum(seconds.values())
    if console.Settings.verbosity == console.VERBOSE:
        console.notice(f"label map by {result.kernel}")
    if json:
        console.print_json(render.run_document([render.image_document(result, files)], seconds))
    else:
        render.print_labels(result)
        render.print_outputs(files, seconds)
    _say_notes(item, result)
    if show:
        render.show(result, to_messages=json)
    return 0


def _many(
    items: "list[Input]",
    job: "Job",
    choice: "ModelChoice",
    sharing: Sharing,
    *,
    single: bool,
    show: bool,
    json: bool,
) -> int:
    from clippy_cli import render
    from clippy_cli.progress import Segmenting
    from clippy_core.errors import DataError
    from clippy_core.segmentation.batch.run import alone, segment_batch

    def on_result(result: "Segmentation") -> None:
        with progress.aside():
            render.show(result, to_messages=json)

    def load() -> "Segmenter":
        with progress.aside():
            return _load(sharing.placed(choice))

    crew = sharing.crew(choice)
    if crew is None and is_shared_from_outside():
        from clippy_core.segmentation.batch.ranks import leading

        crew = leading(load)
    try:
        with Segmenting() as progress:
            records = segment_batch(items, job, crew or alone(load, on_result if show else None), sink=progress)
    except KeyboardInterrupt:
        raise typer.Abort("the same command again does what is left") from None
    failed, untried = sum(record.status == "failed" for record in records), len(items) - len(records)
    if json:
        console.print_json(render.batch_document(records, job.out, progress.files, untried))
    elif single and failed:
        raise DataError(records[0].error or "")
    else:
        render.print_shares(records, job)
        render.print_batch(records, job.out, progress.files, untried)
    if not failed:
        return 0
    return DATA if failed == len(records) else PARTIAL


def _load(choice: "ModelChoice") -> "Segmenter":
    segmenter = choice.load()
    if segmenter.placement.notice:
        console.warn(segmenter.placement.notice)
    return segmenter


def _own_device(choice: "ModelChoice") -> "ModelChoice":
    """The model on this process's own GPU, where it has one."""
    import os

    from clippy_cli.processes import count_gpus

    mine = int(os.environ.get("LOCAL_RANK", "0"))
    if choice.device == "cuda" or (choice.device == "auto" and mine < count_gpus()):
        return replace(choice, device=f"cuda:{mine}")
    return choice


def _must_exist(item: "Input") -> None:
    from clippy_core.images import read_picture
    from clippy_core.segmentation.inputs import STDIN

    if item.source != STDIN and item.place is None and not Path(item.source).exists():
        read_picture(item.source)  # raises, before seconds are spent on loading a model


def _say_notes(item: "Input", result: "Segmentation") -> None:
    from clippy_core.errors import visible

    for note in result.picture.notes:
        console.warn(f"{visible(item.source)}: {note}")
