"""``clippy analyze``: look inside a model, with pictures and a report."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clippy_cli import analysing, options
from clippy_cli.analysing import OUT
from clippy_cli.commands import analyze_sets
from clippy_core import events

if TYPE_CHECKING:
    from clippy_core.analysis.report import Report

HELP_FLAGS = {"help_option_names": ["-h", "--help"]}

app = typer.Typer(add_completion=False, context_settings=HELP_FLAGS)


Point = Annotated[
    list[str] | None,
    typer.Option(
        "--point",
        metavar="X,Y",
        help="Show what is like this place of the first picture, in pixels from its top left corner; repeatable.",
    ),
]
NoMap = Annotated[bool, typer.Option("--no-map", help="Leave the map of locations out; saves seconds.")]
GroupInputs = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="IMAGES...",
        help=f"{analysing.ACCEPTED} With --masks DIR and none, those of DIR.",
        show_default=False,
    ),
]
Method = Annotated[
    str,
    typer.Option("--method", metavar="pca|kmeans|spectral", help="How locations are grouped; pca is the paper's."),
]
Segments = Annotated[
    str,
    typer.Option(
        "--segments",
        metavar="N|auto",
        help="At most so many a picture, 2 to 64; auto takes the number from 2 to 12 with the highest silhouette.",
    ),
]
Seed = Annotated[int, typer.Option("--seed", metavar="N", help="Where kmeans and spectral start from.")]
NameLabels = Annotated[
    list[str] | None,
    typer.Option("--labels", "-l", metavar="WORDS", help='Words to name segments with: "dog|puppy,grass".'),
]
NameFrom = Annotated[
    Path | None,
    typer.Option("--name-from", metavar="FILE", help="The same from a file, one a line: segments first, words after."),
]
Masks = Annotated[
    Path | None,
    typer.Option(
        "--masks",
        metavar="DIR",
        help="Objects to compare with, laid out as for `clippy eval folder`; gives the JS that it computes.",
    ),
]


@app.callback(invoke_without_command=True)
def analyze(context: typer.Context) -> None:
    """Look inside a model: what its features show, group and point at, as pictures and a report.

    Every analysis writes PNG files, report.html, which opens without a network, and a JSON file with its numbers.
    """
    if context.invoked_subcommand is None:
        context.get_help()


@app.command("features", context_settings=HELP_FLAGS)
def features(
    images: analysing.Inputs,
    labels: analysing.Labels = None,
    labels_file: analysing.LabelsFile = None,
    point: Point = None,
    no_map: NoMap = False,
    model: options.Model = "clippy-lite",
    checkpoint: options.Checkpoint = None,
    device: options.Device = "auto",
    size: options.Size = None,
    out: options.Out = OUT,
    show: analysing.Show = False,
    json: options.Json = False,
) -> int:
    """Features as colours that mean the same in every picture, and what is like a point or a label.

    Also the lengths of features, what CLS and register tokens attend to where a model has them, and a map of locations
    of all pictures.
    """
    from clippy_core.analysis.features.run import FeaturesOptions, analyse_features

    analysing.check_size(size)
    chosen = FeaturesOptions(size, analysing.read_labels(labels, labels_file), parse_points(point or []), not no_map)
    items = analysing.find_pictures(images, out)

    def analyse(sink: events.Sink) -> "Report":
        return analyse_features(analysing.load(model, checkpoint, device), items, chosen, out, sink)

    return analysing.run(analyse, out, steps=("looking", "drawing"), show=show, json=json)


def parse_points(texts: list[str]) -> tuple[tuple[float, float], ...]:
    """Points as (x, y) from ``X,Y``; raises UsageError for anything else."""
    from clippy_core.errors import UsageError

    points = []
    for text in texts:
        try:
            x, y = (float(part) for part in text.split(","))
        except ValueError as error:
            raise UsageError(f"--point is {text!r}; accepted: X,Y in pixels, such as 120,80") from error
        points.append((x, y))
    return tuple(points)


@app.command("group", context_settings=HELP_FLAGS)
def group(
    images: GroupInputs = None,
    method: Method = "pca",
    segments: Segments = "8",
    seed: Seed = 0,
    labels: NameLabels = None,
    name_from: NameFrom = None,
    masks: Masks = None,
    model: options.Model = "clippy-lite",
    checkpoint: options.Checkpoint = None,
    device: options.Device = "auto",
    size: options.Size = None,
    out: options.Out = OUT,
    show: analysing.Show = False,
    json: options.Json = False,
) -> int:
    """Segments without any label: which locations of a picture belong together, by their features alone."""
    from clippy_core.analysis.group.run import GroupOptions, analyse_groups
    from clippy_core.errors import UsageError

    if labels and name_from is not None:
        raise UsageError("--labels and --name-from say the same thing twice; accepted: one of them")
    if seed < 0:
        raise UsageError(f"--seed is {seed}; accepted: 0 or more")
    analysing.check_size(size)
    names = analysing.read_labels(labels, name_from)
    chosen = GroupOptions(method, parse_segments(segments), seed, size, names, masks)
    given = images or ([str(masks / "images")] if masks is not None else [])
    items = analysing.find_pictures(given, out)

    def analyse(sink: events.Sink) -> "Report":
        return analyse_groups(analysing.load(model, checkpoint, device), items, chosen, out, sink)

    return analysing.run(analyse, out, steps=("grouping",), show=show, json=json)


def parse_segments(text: str) -> int | None:
    """A number, or None for ``auto``; raises UsageError for anything else."""
    from clippy_core.errors import UsageError

    if text.strip().lower() == "auto":
        return None
    try:
        return int(text)
    except ValueError as error:
        raise UsageError(f"--segments is {text!r}; accepted: a whole number from 2 to 64, or auto") from error


@app.command("pooling", context_settings=HELP_FLAGS)
def pooling(
    images: analysing.Inputs,
    labels: analysing.Labels = None,
    labels_file: analysing.LabelsFile = None,
    model: options.Model = "clippy-lite",
    checkpoint: options.Checkpoint = None,
    device: options.Device = "auto",
    size: options.Size = None,
    out: options.Out = OUT,
    show: analysing.Show = False,
    json: options.Json = False,
) -> int:
    """Which locations win the max for which channels, and how max, mean and CLS differ in what they look at.

    With labels, also which locations the cosine of the whole picture with each of them comes from.
    """
    from clippy_core.analysis.pooling.run import PoolingOptions, analyse_pooling

    analysing.check_size(size)
    chosen = PoolingOptions(size, analysing.read_labels(labels, labels_file))
    items = analysing.find_pictures(images, out)

    def analyse(sink: events.Sink) -> "Report":
        return analyse_pooling(analysing.load(model, checkpoint, device), items, chosen, out, sink)

    return analysing.run(analyse, out, steps=("pooling",), show=show, json=json)


for function in (analyze_sets.backgrounds, analyze_sets.embed, analyze_sets.labels):
    app.command(function.__name__, context_settings=HELP_FLAGS)(function)
