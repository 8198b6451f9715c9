"""``clippy segment``: label every pixel of images, folders, shards, videos or stdin."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clippy_cli import console, options, usable

if TYPE_CHECKING:
    from clippy_core.prompts import Label

STDOUT = Path("-")
DEFAULT_SAVE, DEFAULT_TO_STDOUT = "overlay,labelmap,json", "overlay"
SHARING = "Sharing the work"
RUNTIMES = ("auto", "torch", "onnx")


def _folder_or_stdout(out: Path) -> Path:
    return out if out == STDOUT else options.folder(out)


Inputs = Annotated[
    list[str],
    typer.Argument(
        metavar="INPUTS...",
        help="Images, folders, glob patterns, lists (.txt, @FILE), shards (.tar), videos, or - for standard input.",
    ),
]
Labels = Annotated[
    list[str] | None,
    typer.Option("--labels", "-l", metavar="WORDS", help='What to look for: "dog|puppy,grass"; | joins synonyms.'),
]
LabelsFile = Annotated[
    Path | None, typer.Option("--labels-file", metavar="FILE", help="The same from a file, one label a line.")
]
Runtime = Annotated[
    str,
    typer.Option(
        "--runtime",
        metavar="auto|torch|onnx",
        help="What computes; auto is onnx for an exported model, and for clippy-lite without a GPU.",
    ),
]
Out = Annotated[
    Path,
    typer.Option(
        "--out",
        "-o",
        metavar="DIR",
        parser=options.named,
        callback=_folder_or_stdout,
        help="Folder for outputs; - writes one picture to standard output.",
    ),
]
Save = Annotated[
    list[str] | None,
    typer.Option(
        "--save",
        metavar="KINDS",
        help="What to write; `clippy plugins` lists the writers. (default: overlay,labelmap,json; overlay to -)",
    ),
]
Show = Annotated[bool, typer.Option("--show", help="Show the overlay in the terminal.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Do finished inputs of a folder run again.")]
FailFast = Annotated[bool, typer.Option("--fail-fast", help="One input at a time, until the first that fails.")]
Summary = Annotated[
    bool, typer.Option("--summary", help="Write a report on all inputs: which labels where, contact sheet.")
]
MaxPixels = Annotated[
    int, typer.Option("--max-pixels", metavar="N", help="Refuse larger pictures before decoding them.")
]
Fps = Annotated[
    float | None,
    typer.Option("--fps", metavar="RATE", help="Frames of a video to look at per second of it. (default: all)"),
]
Gpus = Annotated[
    int | None,
    typer.Option(
        "--gpus", metavar="N", rich_help_panel=SHARING, help="GPUs of this machine, a process each; 0 for the CPU."
    ),
]
Jobs = Annotated[int | None, typer.Option("--jobs", metavar="N", rich_help_panel=SHARING, help="Processes on the CPU.")]
Cluster = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        metavar="ray[://HOST:PORT]",
        rich_help_panel=SHARING,
        help="Ray workers here or in a cluster; as many as --jobs or --gpus say.",
    ),
]
Batch = Annotated[
    int | None,
    typer.Option(
        "--batch",
        metavar="N",
        rich_help_panel=SHARING,
        help="Pictures of one size in a forward pass. (default: 16 on a GPU, else 1)",
    ),
]


def segment(
    inputs: Inputs,
    labels: Labels = None,
    labels_file: LabelsFile = None,
    model: options.Model = "clippy-lite",
    checkpoint: options.Checkpoint = None,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    runtime: Runtime = "auto",
    template: options.Template = None,
    size: options.Size = None,
    window: options.Window = None,
    stride: options.Stride = None,
    background: options.Background = "none",
    refine: options.Refine = "none",
    out: Out = Path("clippy-out"),
    save: Save = None,
    show: Show = False,
    overwrite: Overwrite = False,
    fail_fast: FailFast = False,
    summary: Summary = False,
    max_pixels: MaxPixels = 128_000_000,
    fps: Fps = None,
    gpus: Gpus = None,
    jobs: Jobs = None,
    cluster: Cluster = None,
    batch: Batch = None,
    json: options.Json = False,
) -> int:
    """Give every pixel of a picture the label it resembles most.

    One picture prints a table of labels; folders and several inputs also leave a manifest in the output folder, and
    the same command again does only what is left.
    """
    started = time.perf_counter()
    from clippy_cli import segmenting
    from clippy_core.segmentation.batch.run import Job, ModelChoice

    parsed = _labels(options.joined(labels), labels_file)
    writers = _writers(options.joined(save), to_stdout=out == STDOUT)
    _check_runtime(runtime)
    _check_numbers({"--max-pixels": max_pixels, "--jobs": jobs, "--batch": batch}, fps, gpus)
    scored = not {"scores", "scoremaps"}.isdisjoint(writers)
    chosen = options.segment_options(
        size, template, background, window, stride, score_map=scored, max_pixels=max_pixels, refine=refine
    )
    choice = ModelChoice(model, checkpoint, device, precision, runtime)
    crew = segmenting.Sharing(gpus, jobs, cluster)
    crew.check(device, show=show)
    job = Job(parsed, chosen, choice.fingerprint(), out, writers, overwrite, fail_fast, fps, summary, batch)
    if out == STDOUT:
        shared = crew.several or segmenting.is_shared_from_outside()
        _check_stdout(writers, {"--json": json, "--summary": summary, "--gpus, --jobs or --cluster": shared})
        return segmenting.to_stdout(inputs, job, choice, show=show)
    return segmenting.segment(inputs, job, choice, crew, started, show=show, json=json)


def _labels(labels: str | None, labels_file: Path | None) -> "tuple[Label, ...]":
    from clippy_core.errors import UsageError
    from clippy_core.prompts import parse_labels, read_labels

    if (labels is None) == (labels_file is None):
        raise UsageError('say what to look for with either --labels "dog,grass" or --labels-file FILE')
    if len((labels or "").splitlines()) > 1:
        raise UsageError("--labels holds several lines; --labels-file FILE reads one label a line")
    return parse_labels(labels) if labels is not None else read_labels(labels_file or Path())


def _writers(save: str | None, *, to_stdout: bool) -> tuple[str, ...]:
    from clippy_core.errors import UsageError
    from clippy_core.registry import OWN_DISTRIBUTION
    from clippy_core.segmentation.writers import WRITERS

    if save is None:
        save = DEFAULT_TO_STDOUT if to_stdout else DEFAULT_SAVE
    names = tuple(dict.fromkeys(name.strip() for name in save.split(",") if name.strip()))
    if not names:
        raise UsageError(f"--save names no output; known: {', '.join(WRITERS.names())}")
    for name in names:
        if WRITERS.entry(name).source != OWN_DISTRIBUTION:
            usable.load(WRITERS, name)
    return names


def _check_runtime(runtime: str) -> None:
    from clippy_core.errors import UsageError

    if runtime not in RUNTIMES:
        raise UsageError(f"--runtime is {runtime!r}; accepted: {', '.join(RUNTIMES)}")


def _check_numbers(counts: dict[str, int | None], fps: float | None, gpus: int | None) -> None:
    from clippy_core.errors import UsageError

    for name, value in counts.items():
        if value is not None and value < 1:
            raise UsageError(f"{name} is {value}; accepted: 1 or more")
    if gpus is not None and gpus < 0:
        raise UsageError(f"--gpus is {gpus}; accepted: 0 or more")
    if fps is not None and not 0 < fps < float("inf"):
        raise UsageError(f"--fps is {fps:g}; accepted: more than 0 frames a second")


def _check_stdout(writers: tuple[str, ...], others: dict[str, bool]) -> None:
    from clippy_core.errors import UsageError

    if len(writers) != 1:
        raise UsageError(f"--out - writes one picture, but --save names {len(writers)}: {', '.join(writers)}")
    for name, given in others.items():
        if given:
            raise UsageError(f"--out - writes one picture to standard output and does not go with {name}")
    if console.results().is_terminal:
        raise UsageError("--out - writes a PNG to standard output, which is a terminal; send it on with | or >")
