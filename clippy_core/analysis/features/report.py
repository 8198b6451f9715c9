"""Drawing what the features of pictures show, and the report around it.

Shapes: P = h·w location, D embedding, K label, C component, S kept location, N prefix token, H/W pixel.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from clippy_core import events
from clippy_core.analysis.colours import component_colours, heat, marked, montage
from clippy_core.analysis.features.points_map import draw_map, draw_shares
from clippy_core.analysis.features.run import FeaturesOptions, Seen, prefix_names
from clippy_core.analysis.features.spool import Spool
from clippy_core.analysis.pictures import left_out
from clippy_core.analysis.report import Figure, Report, Section, Table, keep, safe_name
from clippy_core.analysis.words import Words
from clippy_core.model.config import ModelConfig

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST_LABELS = 12
MOST_PREFIX = 4
SHEET = 6
SHEET_CELL = 240


def draw(
    config: ModelConfig,
    seen: Seen,
    spool: Spool,
    words: Words | None,
    options: FeaturesOptions,
    out: Path,
    failures: Sequence[tuple[str, str]],
    sink: events.Sink,
) -> Report:
    """Draw every picture, then what belongs to all; see :func:`~clippy_core.analysis.features.run.analyse_features`."""
    start = time.perf_counter()
    sink(events.BatchStarted(len(spool), 0))
    sections, sheet = [], ([], [])
    for record, about in zip(spool, seen.pictures, strict=True):
        begin = time.perf_counter()
        figures = draw_picture(record, about, seen, words, options)
        if len(sheet[0]) < SHEET:
            for row, figure in zip(sheet, figures, strict=False):
                row.append(figure.image)
        kept = tuple(keep(figure, out) for figure in figures)
        sections.append(Section(about["picture"], figures=kept, tables=picture_tables(about)))
        sink(events.ItemFinished(about["picture"], "drawn", None, time.perf_counter() - begin))
    sink(events.BatchFinished(len(spool), 0, 0, time.perf_counter() - start))
    overview = Figure(
        "features.overview",
        montage(list(sheet), SHEET_CELL),
        "Pictures and their features as colours",
        "Where two places have the same colour, in one picture or in two, the model sees them alike.",
    )
    together = (overview, *shared_figures(seen, words, options))
    tables = (*labels_table(seen), lengths_table(seen))
    whole = Section("All pictures together", _TOGETHER, tuple(keep(figure, out) for figure in together), tables)
    return Report(
        "features",
        "What the features show",
        _lead(config, seen, words),
        (whole, *sections, *left_out(failures)),
        numbers(seen, failures),
        {
            "model": config.name,
            "size": options.size or config.vision.size,
            "labels": [label.name for label in options.labels],
            "points": [f"{x:g},{y:g}" for x, y in options.points],
            "pictures": len(spool),
        },
        overview.name,
    )


def draw_picture(
    record: "Mapping[str, np.ndarray]", about: dict[str, Any], seen: Seen, words: Words | None, options: FeaturesOptions
) -> list[Figure]:
    """The drawings of one picture: itself, its colours, norms, attention, and similarity to points and labels."""
    name, grid = about["name"], (int(record["grid"][0]), int(record["grid"][1]))
    picture_HW3, unit_PD = record["picture_HW3"], record["unit_PD"]
    size = picture_HW3.shape[:2]

    def hot(kind: str, values_P: np.ndarray, span: tuple[float, float], title: str, caption: str = "") -> Figure:
        scale = f"Dark {span[0]:z.2f}, bright {span[1]:z.2f}.".replace("-", "−")
        return Figure(
            f"{name}.{kind}", heat(values_P, grid, span, picture_HW3), title, " ".join(filter(None, (caption, scale)))
        )

    is_first = about is seen.pictures[0]
    scale = size[1] / about["width"]
    shown_HW3 = picture_HW3
    for x, y in options.points if is_first else ():
        shown_HW3 = marked(shown_HW3, (x + 0.5) * scale - 0.5, (y + 0.5) * scale - 0.5)
    colours_HW3 = component_colours(seen.basis.project(unit_PD)[:, :3], seen.spans["components"][:3], grid, size)
    figures = [
        Figure(
            f"{name}.picture",
            shown_HW3,
            "The picture",
            "Rings mark the points asked about." * bool(is_first and options.points),
        ),
        Figure(f"{name}.pca", colours_HW3, "Features as colours", "Three principal components as red, green and blue."),
    ]
    for place, point_D in enumerate(seen.points_QD):
        where = "{:g}, {:g}".format(*options.points[place])
        title = f"Like the point {where}" + ("" if is_first else " of the first picture")
        figures.append(hot(f"point-{place + 1}", unit_PD @ point_D, _ends(seen.spans["points"][place]), title))
    if words is not None:
        cosines_PK = words.cosines(unit_PD)
        for place in most_present(cosines_PK, seen.spans["labels"], MOST_LABELS):
            kind = f"label-{place + 1:02d}-{safe_name(words.names[place], 30)}"
            title = f"Like “{words.names[place]}”"
            figures.append(hot(kind, cosines_PK[:, place], _ends(seen.spans["labels"][place]), title))
    for level, span in seen.lengths.items():
        of = "the features" if level == "features" else f"features of {level}"
        text = "Before they are brought to length 1."
        figures.append(
            hot(f"lengths-{safe_name(level, 30)}", record[f"length of {level}"], span, f"Lengths of {of}", text)
        )
    rows_NP = record["attention_NP"][:MOST_PREFIX]
    for token, row_P in zip(prefix_names(len(rows_NP)), rows_NP, strict=True):
        span = 0.0, float(np.percentile(row_P, 99.5))
        caption = "In the last block, the mean over heads."
        figures.append(hot(f"attention-{token.replace(' ', '-')}", row_P, span, f"What {token} attends to", caption))
    return figures


def _ends(span: np.ndarray) -> tuple[float, float]:
    return float(span[0]), float(span[1])


def most_present(cosines_PK: np.ndarray, span_K2: np.ndarray, most: int) -> list[int]:
    """The labels that shine brightest anywhere in a picture by their scales, the brightest first, at most so many."""
    low_K, high_K = span_K2.T
    brightest_K = (cosines_PK.max(0) - low_K) / np.maximum(high_K - low_K, 1e-12)
    return np.argsort(-brightest_K, kind="stable")[:most].tolist()


def picture_tables(about: dict[str, Any]) -> tuple[Table, ...]:
    """A row for each of the nearest labels, with where it is found; nothing without labels."""
    if "labels" not in about:
        return ()
    nearest = sorted(about["labels"].items(), key=lambda item: -item[1]["highest"])
    rows = tuple(
        (name, found["highest"], found["mean"], "{:g}, {:g}".format(*found["at"]), 100 * found["nearest for"])
        for name, found in nearest[:MOST_LABELS]
    )
    caption = "Cosines. “Nearest for” is the share of locations that are nearer to this label than to the others."
    if len(nearest) > MOST_LABELS:
        caption += f" The other {len(nearest) - MOST_LABELS:,} labels are in the JSON file."
    return (Table("Labels", ("label", "highest", "mean", "highest at x, y", "nearest for, %"), rows, caption),)


def shared_figures(seen: Seen, words: Words | None, options: FeaturesOptions) -> list[Figure]:
    """The map of locations of all pictures, and how much each component tells."""
    figures = []
    if options.map and (drawn := draw_map(seen, words)):
        how = "by the label nearest to it" if words else "as in the pictures"
        text = (
            f"Each dot is a location of a picture, coloured {how}; dots that lie together have like features (t-SNE)."
        )
        figures.append(Figure("features.map", drawn, "A map of locations", text))
    text = f"The three that are colours hold {100 * seen.basis.share_C[:3].sum():.0f} % of the variance."
    figures.append(
        Figure("features.components", draw_shares(seen.basis.share_C), "How much each component tells", text)
    )
    return figures


def labels_table(seen: Seen) -> tuple[Table, ...]:
    """A row a label, the most frequent first; nothing without labels."""
    found = [about["labels"] for about in seen.pictures if "labels" in about]
    rows = []
    for name in found[0] if found else ():
        highest = [one[name]["highest"] for one in found]
        best = int(np.argmax(highest))
        share = float(np.mean([one[name]["nearest for"] for one in found]))
        rows.append((name, 100 * share, max(highest), seen.pictures[best]["picture"], float(np.mean(highest))))
    rows.sort(key=lambda row: -row[1])
    columns = ("label", "nearest for, %", "highest", "in", "mean of pictures' highest")
    caption = "Cosines. “Nearest for” is the mean share of locations that are nearer to this label than to the others."
    return (Table("Labels", columns, tuple(rows), caption),) if rows else ()


def lengths_table(seen: Seen) -> Table:
    """A row a picture and level."""
    several = len(seen.lengths) > 1
    rows = tuple(
        (
            about["picture"],
            *((level,) if several else ()),
            "{}×{}".format(*about["grid"]),
            found["mean"],
            found["std"],
            found["highest"] / max(found["mean"], 1e-12),
        )
        for about in seen.pictures
        for level, found in about["lengths"].items()
    )
    heads = ("picture", *(("level",) if several else ()), "grid", "mean", "standard deviation", "highest ÷ mean")
    caption = "Before normalisation. A highest length of many times the mean is a location that stores something else."
    return Table("Lengths of features", heads, rows, caption)


def numbers(seen: Seen, failures: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Every figure of the report, as plain data."""
    return {
        "pictures": seen.pictures,
        "left out": [{"picture": source, "why": why} for source, why in failures],
        "components": {"share of variance": seen.basis.share_C, "effective number": seen.basis.rank},
        "scales": seen.spans,
        "locations kept for scales and map": len(seen.kept_SD),
    }


_TOGETHER = """
Colours are comparable between pictures: the same three directions of feature space are red, green and blue in all of
them, and every scale has the same ends. Ends are percentiles, so that single odd locations do not take the contrast.
"""


def _lead(config: ModelConfig, seen: Seen, words: Words | None) -> str:
    count = len(seen.pictures)
    pictures = "1 picture" if count == 1 else f"{count:,} pictures"
    parts = [
        f"{pictures} as {config.name} sees {'it' if count == 1 else 'them'}: "
        f"{seen.basis.mean_D.shape[0]:,} numbers for every location of a grid, which spread over "
        f"{seen.basis.rank:.0f} directions in effect."
    ]
    if words:
        shares = [
            (sum(about["labels"][name]["nearest for"] for about in seen.pictures) / count, name) for name in words.names
        ]
        share, name = max(shares)
        parts.append(
            f"Of {len(words.names)} labels “{name}” is nearest most often, for {100 * share:.0f} % of locations."
        )
    return " ".join(parts)
