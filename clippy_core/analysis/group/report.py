"""Drawing segments that were found without labels, and the report around them.

Shapes: G segment, O object, H/W pixel.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from clippy_core.analysis.colours import montage
from clippy_core.analysis.group.run import GroupOptions, describe
from clippy_core.analysis.pictures import left_out
from clippy_core.analysis.report import Figure, Report, Section, Table, figure_png, keep, new_plot
from clippy_core.images import Picture
from clippy_core.model.config import ModelConfig
from clippy_core.segmentation.grouping import upsample_groups
from clippy_core.segmentation.overlay import draw_overlay, outline, tint
from clippy_core.segmentation.result import Segmentation

if TYPE_CHECKING:
    from clippy_core.analysis.group.run import Grouped
    from clippy_core.analysis.pictures import Shown

SHEET, SHEET_CELL = 6, 240
BAR = "#2f6f9f"
METHODS = {
    "pca": "the first principal components of a picture's own features are the centres, and every location goes to the "
    "one it has the highest cosine with",
    "kmeans": "k-means on features of length 1",
    "spectral": "normalised cuts of the graph of cosines",
}


class Drawing:
    """Draws picture after picture and keeps only numbers and paths.

    Args:
        config: The model.
        options: How segments are made.
        out: Where drawings go.
    """

    def __init__(self, config: ModelConfig, options: GroupOptions, out: Path) -> None:
        self._config = config
        self._options = options
        self._out = out
        self._about: list[dict[str, Any]] = []
        self._sections: list[Section] = []
        self._sheet: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
        self._tried: list[dict[int, float]] = []

    def add(self, shown: "Shown", picture_HW3: np.ndarray, found: "Grouped") -> None:
        """Draw the segments of a picture, ``picture_HW3`` being the picture at the size it is drawn with."""
        self._about.append(describe(shown, found))
        if found.tried:
            self._tried.append(found.tried)
        drawn = as_segmentation(picture_HW3, found, self._config.name, shown.source)
        overlay_HW3 = draw_overlay(drawn)
        if len(self._sheet[0]) < SHEET:
            # A legend would hide half of a picture so small, and nobody could read it.
            tinted_HW3 = tint(drawn)
            outline(drawn.label_map, tinted_HW3)
            self._sheet[0].append(picture_HW3)
            self._sheet[1].append(tinted_HW3)
        figures = [
            Figure(f"{shown.name}.picture", picture_HW3, "The picture"),
            Figure(f"{shown.name}.segments", overlay_HW3, "Its segments", "The largest first in the legend."),
        ]
        kept = tuple(keep(figure, self._out) for figure in figures)
        self._sections.append(Section(shown.source, figures=kept, tables=segment_tables(found)))

    def report(self, failures: Sequence[tuple[str, str]], js: float | None) -> Report:
        """The report on all pictures.

        Args:
            failures: Pictures that could not be used, with reasons.
            js: The mean IoU of objects with the segments that fit them best; None without objects.
        """
        options, config = self._options, self._config
        overview = Figure(
            "group.overview",
            montage(list(self._sheet), SHEET_CELL),
            "Pictures and their segments",
            "Colours tell segments of one picture apart; they mean nothing from picture to picture. "
            "Names stand in the single pictures.",
        )
        figures = [overview]
        if self._tried:
            caption = "A line a picture, the mean in bold; the number with the highest value is taken."
            figures.append(
                Figure("group.numbers", draw_tried(self._tried), "Silhouette by number of segments", caption)
            )
        whole = Section(
            "All pictures together",
            f"Segments are made by {options.method}: {METHODS[options.method]}. {_number_text(options)}",
            tuple(keep(figure, self._out) for figure in figures),
            (*(() if js is None else (self._js_table(js),)), pictures_table(self._about)),
        )
        return Report(
            "group",
            "Segments without labels",
            self._lead(js),
            (whole, *self._sections, *left_out(failures)),
            {
                **(
                    {} if js is None else {"JS": js, "objects": sum(len(one.get("objects", ())) for one in self._about)}
                ),
                "pictures": self._about,
                "left out": [{"picture": source, "why": why} for source, why in failures],
            },
            {
                "model": config.name,
                "size": options.size or config.vision.size,
                "method": options.method,
                "segments": options.segments or "auto",
                "seed": options.seed,
                "names": [label.name for label in options.names],
                "masks": options.masks,
            },
            overview.name,
        )

    def _js_table(self, js: float) -> Table:
        objects = sum(len(one.get("objects", ())) for one in self._about)
        pictures = sum("JS" in one for one in self._about)
        caption = "JS: the mean IoU of objects with the segments that fit them best, as clippy eval computes it."
        return Table("Objects and segments", ("JS", "objects", "pictures"), ((js, objects, pictures),), caption)

    def _lead(self, js: float | None) -> str:
        counts = [len(one["segments"]) for one in self._about]
        pictures = "1 picture" if len(counts) == 1 else f"{len(counts):,} pictures"
        text = f"{pictures} in {min(counts)}" + (f" to {max(counts)}" if max(counts) > min(counts) else "")
        text += f" segments that {self._config.name} found by what its features have in common, without any word."
        if self._options.names:
            text += f" Their names were chosen afterwards, from {len(self._options.names):,}."
        if js is not None:
            objects = sum(len(one.get("objects", ())) for one in self._about)
            text += (
                f" JS, the mean IoU of {objects:,} objects with the segments that fit them best, is {100 * js:.1f} %."
            )
        return text


def as_segmentation(picture_HW3: np.ndarray, found: "Grouped", model: str, source: str) -> Segmentation:
    """Segments as the labels of a picture, to be drawn like them."""
    size = picture_HW3.shape[0], picture_HW3.shape[1]
    return Segmentation(
        picture=Picture(picture_HW3, "PNG"),
        label_map=upsample_groups(found.groups_P.astype(np.uint8), found.grid, size),
        labels=found.labels,
        scores=np.zeros(len(found.share_G), np.float32),
        model=model,
        source=source,
    )


def segment_tables(found: "Grouped") -> tuple[Table, ...]:
    """The segments of a picture with their names, and its objects."""
    rows = []
    for number, share in enumerate(found.share_G.tolist()):
        row: list[Any] = [number + 1, 100 * share]
        if found.names:
            (name, cosine), *others = found.names[number]
            row += [name, cosine, ", ".join(f"{other} {value:z.3f}" for other, value in others)]
        rows.append(tuple(row))
    columns = ("segment", "share, %", *(("name", "cosine", "next nearest") if found.names else ()))
    tables = [Table("Segments", columns, tuple(rows))]
    if len(found.overlaps_O):
        objects = tuple((number, value) for number, value in enumerate(found.overlaps_O.tolist(), start=1))
        tables.append(Table("Objects", ("object", "IoU with the segment that fits it best"), objects))
    return tuple(tables)


def pictures_table(about: Sequence[dict[str, Any]]) -> Table:
    """A row a picture."""
    measured = any("JS" in one for one in about)
    rows = tuple(
        (
            one["picture"],
            len(one["segments"]),
            one["silhouette"],
            *((one.get("JS"), len(one.get("objects", ()))) if measured else ()),
        )
        for one in about
    )
    columns = ("picture", "segments", "silhouette", *(("JS", "objects") if measured else ()))
    caption = "Silhouette, from −1 to 1: how much nearer a location is to its own segment than to the next one."
    return Table("Pictures", columns, rows, caption)


def draw_tried(tried: Sequence[dict[int, float]]) -> bytes:
    """Silhouette against the number of segments, as a PNG file."""
    plot = new_plot(6.0, 3.0)
    axes = plot.add_subplot()
    for values in tried:
        axes.plot(
            list(values), list(values.values()), color=BAR, alpha=max(0.06, min(0.5, 4 / len(tried))), linewidth=1
        )
    numbers = sorted(set().union(*tried))
    means = [float(np.mean([values[number] for values in tried if number in values])) for number in numbers]
    axes.plot(numbers, means, color=BAR, linewidth=2.5)
    axes.set_xticks(numbers)
    axes.set_xlabel("segments", fontsize=9)
    axes.set_ylabel("silhouette", fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    return figure_png(plot)


def _number_text(options: GroupOptions) -> str:
    if options.segments is not None:
        return f"At most {options.segments} in a picture."
    return "Of 2 to 12 segments a picture gets the number with the highest silhouette by cosine distance."
