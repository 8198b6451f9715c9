"""``clippy segment``: label every pixel of images, folders, globs or stdin."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clippy_cli import console, options, usable

if TYPE_CHECKING:
    from clippy_core.prompts import Label
    from clippy_core.segmentation.batch import Job
    from clippy_core.segmentation.inputs import Input
    from clippy_core.segmentation.result import Segmentation
    from clippy_core.segmentation.segmenter import Segmenter

Loader = Callable[[], "Segmenter"]


def segment(
    inputs: Annotated[
        list[str], typer.Argument(metavar="INPUTS...", help="Images, folders, glob patterns, or - for standard input.")
    ],
    labels: Annotated[
        str | None,
        typer.Option("--labels", "-l", metavar="WORDS", help='What to look for: "dog|puppy,grass"; | joins synonyms.'),
    ] = None,
    labels_file: Annotated[
        Path | None, typer.Option("--labels-file", metavar="FILE", help="The same from a file, one label a line.")
    ] = None,
    model: options.Model = "clippy-lite",
    checkpoint: options.Checkpoint = None,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    template: options.Template = None,
    size: options.Size = None,
    window: options.Window = None,
    stride: options.Stride = None,
    background: options.Background = "none",
    out: options.Out = Path("clippy-out"),
    save: Annotated[
        str, typer.Option("--save", metavar="KINDS", help="What to write; `clippy plugins` lists the writers.")
    ] = "overlay,labelmap,json",
    show: Annotated[bool, typer.Option("--show", help="Show the overlay in the terminal.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Do finished inputs of a folder run again.")] = False,
    fail_fast: Annotated[bool, typer.Option("--fail-fast", help="Stop at the first input that fails.")] = False,
    max_pixels: Annotated[
        int, typer.Option("--max-pixels", metavar="N", help="Refuse larger pictures before decoding them.")
    ] = 128_000_000,
    json: options.Json = False,
) -> int:
    """Give every pixel of a picture the label it resembles most.

    One picture prints a table of labels; folders and several pictures also leave a manifest in the output folder, and
    the same command again does only what is left.
    """
    started = time.perf_counter()
    parsed = _labels(labels, labels_file)
    writers = _writers(save)
    _check(max_pixels)
    from clippy_cli import render
    from clippy_core.segmentation.inputs import find_inputs

    items = find_inputs(inputs, out)
    chosen = options.segment_options(
        size, template, background, window, stride, score_map="scores" in writers, max_pixels=max_pixels
    )
    from clippy_core.segmentation.batch import Job

    weights = model if checkpoint is None else f"{model} with {checkpoint}"
    job = Job(parsed, chosen, weights, out, writers, overwrite, fail_fast)

    def load() -> "Segmenter":
        from clippy_core.segmentation.segmenter import load as load_model

        segmenter = load_model(model, checkpoint=checkpoint, device=device, precision=precision)
        if segmenter.placement.notice:
            console.warn(segmenter.placement.notice)
        return segmenter

    show = show and render.can_show(to_messages=json)
    single = len(items) == 1 and items[0].source == inputs[0]
    if single:
        return _one(load, items[0], job, started, show=show, json=json)
    return _many(load, items, job, show=show, json=json)


def _labels(labels: str | None, labels_file: Path | None) -> "tuple[Label, ...]":
    from clippy_core.errors import UsageError
    from clippy_core.prompts import parse_labels, read_labels

    if (labels is None) == (labels_file is None):
        raise UsageError('say what to look for with either --labels "dog,grass" or --labels-file FILE')
    if len((labels or "").splitlines()) > 1:
        raise UsageError("--labels holds several lines; --labels-file FILE reads one label a line")
    return parse_labels(options.words(labels)) if labels is not None else read_labels(labels_file or Path())


def _writers(save: str) -> tuple[str, ...]:
    from clippy_core.errors import UsageError
    from clippy_core.registry import OWN_DISTRIBUTION
    from clippy_core.segmentation.writers import WRITERS

    names = tuple(dict.fromkeys(name.strip() for name in save.split(",") if name.strip()))
    if not names:
        raise UsageError(f"--save names no output; known: {', '.join(WRITERS.names())}")
    for name in names:
        if WRITERS.entry(name).source != OWN_DISTRIBUTION:
            usable.load(WRITERS, name)
    return names


def _check(max_pixels: int) -> None:
    from clippy_core.errors import UsageError

    if max_pixels < 1:
        raise UsageError(f"--max-pixels is {max_pixels}; accepted: 1 or more")


def _one(load: Loader, item: "Input", job: "Job", started: float, *, show: bool, json: bool) -> int:
    from clippy_cli import render
    from clippy_core.images import read_picture
    from clippy_core.segmentation.batch import segment_one
    from clippy_core.segmentation.inputs import STDIN

    if item.source != STDIN and not Path(item.source).exists():
        read_picture(item.source)  # raises, before seconds are spent on loading a model
    segmenter = load()
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
    for note in result.picture.notes:
        console.warn(f"{item.source}: {note}")
    if show:
        render.show(result, to_messages=json)
    return 0


def _many(load: Loader, items: "list[Input]", job: "Job", *, show: bool, json: bool) -> int:
    from clippy_cli import render
    from clippy_cli.progress import BatchProgress
    from clippy_core.segmentation.batch import segment_batch

    tally = render.Tally()

    def on_result(result: "Segmentation") -> None:
        tally.add(result)
        for note in result.picture.notes:
            console.warn(f"{result.source}: {note}")
        if show:
            with progress.aside():
                render.show(result, to_messages=json)

    try:
        with BatchProgress() as progress:
            records = segment_batch(load, items, job, sink=progress, on_result=on_result)
    except KeyboardInterrupt:
        raise typer.Abort("the same command again does what is left") from None
    failed = [record for record in records if record.status == "failed"]
    if json:
        console.print_json(render.batch_document(records, job.out))
    else:
        tally.print()
        render.print_batch(records, job.out)
    if not failed:
        return 0
    return 4 if len(failed) == len(records) else 3
