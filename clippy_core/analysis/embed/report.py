"""The report on a folder's pictures and labels: the map, contact sheets, tables, and a CSV file.

Shapes: N picture, K label, T rank.
"""

import csv
import io
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from clippy_core.analysis.embed.run import EmbedOptions, Neighbourhood
from clippy_core.analysis.maps import picture_map
from clippy_core.analysis.pictures import left_out
from clippy_core.analysis.report import Figure, Report, Section, Table
from clippy_core.analysis.sheets import Tile, sheet
from clippy_core.model.config import ModelConfig

MOST_LABELS = 24
MOST_PICTURES = 16
MOST_GROUPS = 16
ACROSS = 6
MOST_ROWS = 60
TOP = 3
"""Labels that are named for each picture."""


def draw(config: ModelConfig, found: Neighbourhood, options: EmbedOptions) -> Report:
    """Draw what was found."""
    figure = Figure(
        "embed.map",
        picture_map(found.at_N2, found.gallery.small, found.label_N, found.at_K2, found.names),
        "Pictures and labels in one map",
        f"{'t-SNE' if options.projection == 'tsne' else 'Principal components'}, pictures and labels each relative to "
        "their own mean. Frames and dots have the colour of the nearest label. Near means alike; far means little.",
    )
    sections = (
        Section("The map", figures=(figure,), tables=(_labels_table(found),)),
        Section("Nearest pictures of each label", figures=(_labels_figure(found),)),
        Section("Nearest pictures of pictures", figures=_neighbours_figures(found), tables=(_pictures_table(found),)),
        _duplicates(found, options),
        Section("Clusters", _clusters_text(found, options), (_clusters_figure(found),), (_clusters_table(found),)),
        *left_out(found.gallery.failures),
    )
    return Report(
        "embed",
        "Pictures and labels in one space",
        _lead(found, options),
        sections,
        numbers(found),
        {
            "model": config.name,
            "labels": ["|".join(label.words) for label in options.labels],
            "size": options.size or config.vision.size,
            "templates": list(options.templates or config.templates),
            "projection": options.projection,
            "duplicates": options.duplicates,
            "clusters": options.clusters or "auto",
        },
        figure.name,
    )


def _lead(found: Neighbourhood, options: EmbedOptions) -> str:
    count, speed = len(found.gallery.sources), found.timing["images/s"]
    spare = sum(len(group) - 1 for group in found.copies)
    copies = f"{spare} of them {'is' if spare == 1 else 'are'} there more than once" if spare else "none is there twice"
    clusters = f"{len(found.called)} cluster{'s' * (len(found.called) != 1)}"
    return (
        f"{count:,} picture{'s' * (count != 1)} and {len(found.names):,} label{'s' * (len(found.names) != 1)}; "
        f"{copies} (cosine of {options.duplicates:g} or more, and alike to the eye). {clusters}. "
        f"Looked at with {speed:.3g} images a second."
    )


def short_names(sources: Sequence[str]) -> list[str]:
    """What sources are called once the folder they share is left out."""
    if len(sources) < 2:
        return [os.path.basename(source) or source for source in sources]  # noqa: PTH119
    shared = os.path.commonpath([os.path.dirname(source) or "." for source in sources]) if _share(sources) else ""  # noqa: PTH120
    return [os.path.relpath(source, shared) if shared else source for source in sources]


def _share(sources: Sequence[str]) -> bool:
    """Whether all are paths of one kind, which alone have a common folder."""
    return len({os.path.isabs(source) for source in sources}) == 1  # noqa: PTH117


def _labels_table(found: Neighbourhood) -> Table:
    rows = sorted(label_rows(found), key=lambda row: -row["pictures"])
    cells = tuple((row["label"], row["pictures"], row["mean cosine"], row["nearest"], row["cosine"]) for row in rows)
    columns = ("label", "nearest to so many pictures", "mean cosine", "its nearest picture", "cosine")
    return Table("Labels", columns, cells[:MOST_ROWS])


def label_rows(found: Neighbourhood) -> list[dict[str, Any]]:
    """What is known of each label."""
    names, counts_K = short_names(found.gallery.sources), np.bincount(found.label_N, minlength=len(found.names))
    best_K = found.cosine_NK.argmax(0)
    return [
        {
            "label": name,
            "pictures": int(counts_K[label]),
            "mean cosine": float(found.cosine_NK[:, label].mean()),
            "nearest": names[best_K[label]],
            "cosine": float(found.cosine_NK[best_K[label], label]),
        }
        for label, name in enumerate(found.names)
    ]


def _labels_figure(found: Neighbourhood) -> Figure:
    counts_K = np.bincount(found.label_N, minlength=len(found.names))
    chosen = np.sort(np.argsort(-counts_K, kind="stable")[:MOST_LABELS]).tolist()
    names = short_names(found.gallery.sources)
    rows = []
    for label in chosen:
        order = np.argsort(-found.cosine_NK[:, label], kind="stable")[:ACROSS].tolist()
        tiles = [
            Tile(
                found.gallery.small[place],
                (names[place], f"{found.cosine_NK[place, label]:z.3f}"),
                "good" if found.label_N[place] == label else "",
            )
            for place in order
        ]
        rows.append((found.names[label], tiles))
    cut = f" Shown are the {MOST_LABELS} labels with most pictures." if len(chosen) < len(found.names) else ""
    return Figure(
        "embed.labels",
        sheet(rows),
        "The nearest pictures of each label",
        f"Under each its cosine with the label; framed where no other label is nearer to the picture.{cut}",
    )


def _neighbours_figures(found: Neighbourhood) -> tuple[Figure, ...]:
    count = len(found.gallery.sources)
    if count < 2:
        return ()
    names = short_names(found.gallery.sources)
    rows = []
    for place in np.unique(np.linspace(0, count - 1, MOST_PICTURES).round().astype(int)).tolist():
        tiles = [Tile(found.gallery.small[place], (names[place], found.names[found.label_N[place]]))]
        for other, cosine in list(zip(found.nearest_NT[place], found.nearest_cosine_NT[place], strict=True))[
            : ACROSS - 1
        ]:
            tiles.append(Tile(found.gallery.small[other], (names[other], f"{cosine:z.3f}")))
        rows.append(("", tiles))
    some = f" {MOST_PICTURES} pictures, evenly from all; embed.csv has the others." if count > MOST_PICTURES else ""
    caption = f"First a picture with its nearest label, then the others that are nearest, with cosines.{some}"
    return (Figure("embed.neighbours", sheet(rows), "The nearest pictures of a picture", caption),)


def _pictures_table(found: Neighbourhood) -> Table:
    names = short_names(found.gallery.sources)
    order_NK = np.argsort(-found.cosine_NK, axis=1, kind="stable")[:, :TOP]
    rows, relative_N = [], found.relative_N
    for place in range(min(len(names), MOST_ROWS)):
        said = ", ".join(
            f"{found.names[label]} {100 * found.probability_NK[place, label]:.0f} %" for label in order_NK[place]
        )
        near = names[found.nearest_NT[place, 0]] if found.nearest_NT.size else ""
        cosine = float(found.nearest_cosine_NT[place, 0]) if found.nearest_NT.size else None
        rows.append((names[place], said, found.names[relative_N[place]], near, cosine))
    caption = (
        "Some labels are near to every picture; the relative label is the one whose cosine is highest above its mean "
        "over all pictures here."
    )
    if len(rows) < len(names):
        caption += f" These are the first {MOST_ROWS} of {len(names):,}; embed.csv has all."
    columns = ("picture", "nearest labels", "relative label", "nearest picture", "cosine")
    return Table("Pictures", columns, tuple(rows), caption)


def _duplicates(found: Neighbourhood, options: EmbedOptions) -> Section:
    text = (
        f"Two pictures are one if their cosine is at least {options.duplicates:g} and the pattern of light and dark is "
        "the same; a high cosine alone only says that they show the same."
    )
    if not found.copies:
        return Section("Duplicates", f"{text} There are none.")
    names, rows = short_names(found.gallery.sources), []
    for group in found.copies[:MOST_GROUPS]:
        rows.append(("", [Tile(found.gallery.small[place], (names[place],)) for place in group[:ACROSS]]))
    table = Table(
        "Pairs that are one picture",
        ("picture", "and", "cosine", "different bits of 64"),
        tuple((names[pair.one], names[pair.other], pair.cosine, pair.bits) for pair in found.duplicates[:MOST_ROWS]),
    )
    figure = Figure(
        "embed.duplicates", sheet(rows), "Pictures that are there more than once", "Each row is one picture."
    )
    return Section("Duplicates", text, (figure,), (table,))


def _clusters_text(found: Neighbourhood, options: EmbedOptions) -> str:
    if len(found.called) == 1:
        return "One cluster."
    how = "as asked for" if options.clusters else "the number with the highest silhouette"
    return (
        f"k-means on embeddings relative to their mean; {how} ({found.silhouette:z.2f}; 0 is no order, 1 is perfect). "
        "A cluster is called by the label whose mean cosine in it is highest above its mean over all pictures."
    )


def cluster_members(found: Neighbourhood) -> list[list[int]]:
    """The pictures of each cluster, those nearest to its mean first."""
    members = []
    for number in range(len(found.called)):
        inside = np.flatnonzero(found.cluster_N == number)
        pooled = found.gallery.pooled_ND[inside]
        members.append(inside[np.argsort(-(pooled @ pooled.mean(0)), kind="stable")].tolist())
    return members


def _clusters_figure(found: Neighbourhood) -> Figure:
    names, rows = short_names(found.gallery.sources), []
    for number, inside in enumerate(cluster_members(found)[:MOST_LABELS]):
        title = f"{number + 1}: {found.called[number]} ({len(inside)})"
        rows.append((title, [Tile(found.gallery.small[place], (names[place],)) for place in inside[:ACROSS]]))
    return Figure("embed.clusters", sheet(rows), "Clusters", "The pictures nearest to the middle of each.")


def _clusters_table(found: Neighbourhood) -> Table:
    names = short_names(found.gallery.sources)
    rows = tuple(
        (number + 1, found.called[number], len(inside), names[inside[0]])
        for number, inside in enumerate(cluster_members(found))
    )
    return Table("Clusters", ("cluster", "called", "pictures", "in its middle"), rows)


def to_csv(found: Neighbourhood) -> str:
    """A line a picture: nearest labels with cosines and probabilities, nearest picture, copies, cluster and place."""
    top = min(TOP, len(found.names))
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    labels = [f"{kind}{rank}" for rank in range(1, top + 1) for kind in ("label", "cosine", "probability")]
    heading = ["picture", *labels, "relative_label", "nearest_picture", "nearest_cosine", "copy_of", "cluster"]
    writer.writerow([*heading, "map_x", "map_y"])
    order_NK = np.argsort(-found.cosine_NK, axis=1, kind="stable")[:, :top]
    sources, relative_N = found.gallery.sources, found.relative_N
    original = {place: group[0] for group in found.copies for place in group[1:]}
    for place, source in enumerate(sources):
        cells: list[Any] = [source]
        for label in order_NK[place]:
            cells += [found.names[label], f"{found.cosine_NK[place, label]:z.4f}"]
            cells.append(f"{found.probability_NK[place, label]:z.4f}")
        cells.append(found.names[relative_N[place]])
        if found.nearest_NT.size:
            cells += [sources[found.nearest_NT[place, 0]], f"{found.nearest_cosine_NT[place, 0]:z.4f}"]
        else:
            cells += ["", ""]
        cells += [sources[original[place]] if place in original else "", int(found.cluster_N[place]) + 1]
        writer.writerow([*cells, *(f"{value:z.4f}" for value in found.at_N2[place])])
    return buffer.getvalue()


def numbers(found: Neighbourhood) -> dict[str, Any]:
    """Every figure, as the JSON file has it."""
    sources, relative_N = found.gallery.sources, found.relative_N
    order_NK = np.argsort(-found.cosine_NK, axis=1, kind="stable")[:, :TOP]
    return {
        "pictures": [
            {
                "picture": source,
                "labels": [
                    {
                        "label": found.names[label],
                        "cosine": float(found.cosine_NK[place, label]),
                        "probability": float(found.probability_NK[place, label]),
                    }
                    for label in order_NK[place]
                ],
                "nearest": [
                    {"picture": sources[other], "cosine": float(cosine)}
                    for other, cosine in zip(found.nearest_NT[place], found.nearest_cosine_NT[place], strict=True)
                ],
                "relative label": found.names[relative_N[place]],
                "cluster": int(found.cluster_N[place]) + 1,
                "at": found.at_N2[place],
            }
            for place, source in enumerate(sources)
        ],
        "labels": [{**row, "at": at} for row, at in zip(label_rows(found), found.at_K2, strict=True)],
        "duplicates": [
            {
                "pictures": [sources[pair.one], sources[pair.other]],
                "cosine": pair.cosine,
                "bits": pair.bits,
            }
            for pair in found.duplicates
        ],
        "copies": [[sources[place] for place in group] for group in found.copies],
        "clusters": [
            {"cluster": number + 1, "called": found.called[number], "pictures": len(inside)}
            for number, inside in enumerate(cluster_members(found))
        ],
        "silhouette": found.silhouette,
        "gap between pictures and labels": found.gap,
        **found.timing,
        "left out": [{"picture": picture, "why": why} for picture, why in found.gallery.failures],
    }
