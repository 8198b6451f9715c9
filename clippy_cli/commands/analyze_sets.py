"""``clippy analyze backgrounds``, ``embed`` and ``labels``: sets of pictures and sets of words."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clippy_cli import analysing, options
from clippy_cli.analysing import OUT

if TYPE_CHECKING:
    from clippy_core.analysis.report import Report
    from clippy_core.events import Sink

Folder = Annotated[
    Path,
    typer.Argument(
        metavar="DIR", help="Waterbirds, or a folder with subjects/ (cut-outs, RGBA) and backgrounds/ (pictures)."
    ),
]
Scale = Annotated[
    float, typer.Option("--scale", metavar="SHARE", help="Longer side of a cut-out as a share of the picture's.")
]
Split = Annotated[str | None, typer.Option("--split", metavar="NAME", help="Part of Waterbirds. (default: test)")]
Limit = Annotated[int | None, typer.Option("--limit", metavar="N", help="Use N pictures of Waterbirds. (default: all)")]
ClassLabels = Annotated[
    list[str] | None,
    typer.Option(
        "--labels",
        "-l",
        metavar="WORDS",
        help='The classes: "dog|puppy,cat"; each subject is one of them by its name. (default: the subjects\' names)',
    ),
]
SpaceLabels = Annotated[
    list[str] | None,
    typer.Option(
        "--labels", "-l", metavar="WORDS", help='What to compare with: "dog|puppy,grass"; or --labels-file. [required]'
    ),
]
Duplicates = Annotated[
    float,
    typer.Option(
        "--duplicates", metavar="COSINE", help="Pictures this near, and alike to the eye, are one picture twice."
    ),
]
Projection = Annotated[str, typer.Option("--projection", metavar="tsne|pca", help="How the map is made.")]
LabelSet = Annotated[
    str | None, typer.Argument(metavar="WORDS", help='The label set: "dog|puppy,grass"; | joins synonyms.')
]
Clusters = Annotated[
    str, typer.Option("--clusters", metavar="N|auto", help="How many clusters; auto takes the highest silhouette.")
]
Prompts = Annotated[
    str | None,
    typer.Option(
        "--prompts",
        metavar="SETS",
        help="Prompts to compare with: own, word, paper, openai-80. (default: all; no openai-80 above 200 words)",
    ),
]


def backgrounds(
    folder: Folder,
    labels: ClassLabels = None,
    labels_file: analysing.LabelsFile = None,
    scale: Scale = 0.6,
    split: Split = None,
    limit: Limit = None,
    template: options.Template = None,
    model: options.Model = "clippy-lite",
    checkpoint: options.Checkpoint = None,
    device: options.Device = "auto",
    size: options.Size = None,
    out: options.Out = OUT,
    show: analysing.Show = False,
    json: options.Json = False,
) -> int:
    """What changes when only the background does: scores, classes, and which background says which label.

    Cut-outs are laid over every background, always at the same place. Subjects and backgrounds are called by their
    file's or their folder's name: subjects/dog.png, subjects/dog/1.png, backgrounds/beach-2.jpg.
    """
    from clippy_core.analysis.backgrounds.run import BackgroundsOptions, analyse_backgrounds, check_folder

    prompts = tuple(options.words(text) for text in template) if template else None
    chosen = BackgroundsOptions(analysing.read_labels(labels, labels_file), size, scale, prompts, split, limit)
    check_folder(folder, chosen)

    def analyse(sink: "Sink") -> "Report":
        return analyse_backgrounds(analysing.load(model, checkpoint, device), folder, chosen, sink)[1]

    return analysing.run(analyse, out, steps=("looking",), show=show, json=json)


def embed(
    images: analysing.Inputs,
    labels: SpaceLabels = None,
    labels_file: analysing.LabelsFile = None,
    duplicates: Duplicates = 0.97,
    clusters: Clusters = "auto",
    projection: Projection = "tsne",
    template: options.Template = None,
    model: options.Model = "clippy-lite",
    checkpoint: options.Checkpoint = None,
    device: options.Device = "auto",
    size: options.Size = None,
    out: options.Out = OUT,
    show: analysing.Show = False,
    json: options.Json = False,
) -> int:
    """Pictures and labels in one map: nearest labels and pictures, duplicates, clusters.

    Also writes embed.csv, a line a picture.
    """
    from clippy_core.analysis.embed.run import EmbedOptions, analyse_embed

    prompts = tuple(options.words(text) for text in template) if template else None
    parsed = analysing.read_labels(labels, labels_file)
    chosen = EmbedOptions(parsed, size, prompts, projection, duplicates, read_clusters(clusters))
    items = analysing.find_pictures(images, out)

    def analyse(sink: "Sink") -> "Report":
        return analyse_embed(analysing.load(model, checkpoint, device), items, chosen, out, sink)[1]

    return analysing.run(analyse, out, steps=("looking",), show=show, json=json)


def labels(
    words: LabelSet = None,
    labels_file: analysing.LabelsFile = None,
    prompts: Prompts = None,
    template: options.Template = None,
    model: options.Model = "clippy-lite",
    checkpoint: options.Checkpoint = None,
    device: options.Device = "auto",
    out: options.Out = OUT,
    show: analysing.Show = False,
    json: options.Json = False,
) -> int:
    """How a label set behaves before any picture: confusable pairs, synonyms that collide, prompts that matter.

    Also what the tokenizer cuts or does not know. Every finding comes with advice.
    """
    from clippy_core.analysis.labels.run import LabelSetOptions, analyse_labels
    from clippy_core.errors import UsageError

    if (words is None) == (labels_file is None):
        raise UsageError('give the label set as either WORDS such as "dog|puppy,grass" or --labels-file FILE')
    compared = None if prompts is None else tuple(name.strip() for name in prompts.split(",") if name.strip())
    templates = tuple(options.words(text) for text in template) if template else None
    parsed = analysing.read_labels(None if words is None else [words], labels_file)
    chosen = LabelSetOptions(parsed, templates, compared)

    def analyse(sink: "Sink") -> "Report":
        return analyse_labels(analysing.load(model, checkpoint, device), chosen, sink)[1]

    return analysing.run(analyse, out, steps=("prompts",), show=show, json=json)


def read_clusters(text: str) -> int | None:
    """A number of clusters; None for ``auto``; raises UsageError for anything else."""
    from clippy_core.errors import UsageError

    if text == "auto":
        return None
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"--clusters is {text!r}; accepted: a whole number of 1 or more, or auto") from None
