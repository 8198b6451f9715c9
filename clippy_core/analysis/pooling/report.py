"""Drawing where pooled vectors come from, and the report around it.

Shapes: P = h·w location, K label, H/W pixel.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from clippy_core.analysis.colours import cells, heat, montage
from clippy_core.analysis.pictures import left_out
from clippy_core.analysis.pooling.run import FOCUS, TOP_SHARES, PoolingOptions, describe
from clippy_core.analysis.report import Figure, Report, Section, Table, figure_png, keep, new_plot, safe_name
from clippy_core.model.config import ModelConfig

if TYPE_CHECKING:
    from clippy_core.analysis.pictures import Shown
    from clippy_core.analysis.pooling.run import Pooled

SHEET, SHEET_CELL = 6, 240
MOST_LABELS, MOST_OF_MANY = 8, 3
"""Labels whose cosines are drawn: of a few pictures, and of many."""
MOST_ROWS = 12
POOLS = {"max": "max", "mean": "mean", "cls": "CLS"}
BAR = "#2f6f9f"
STEPS = 101
ENDS = (1.0, 99.5)
"""Percentiles at which a scale ends."""


class Drawing:
    """Draws picture after picture and keeps only numbers and paths.

    Args:
        config: The model.
        options: What is looked at.
        out: Where drawings go.
        scale: The model's factor on cosines.
        few: Whether there are so few pictures that more labels can be drawn.
    """

    def __init__(self, config: ModelConfig, options: PoolingOptions, out: Path, scale: float, *, few: bool) -> None:
        self._most = MOST_LABELS if few else MOST_OF_MANY
        self._config = config
        self._scale = scale
        self._labels = [label.name for label in options.labels]
        self._size = options.size or config.vision.size
        self._out = out
        self._about: list[dict[str, Any]] = []
        self._sections: list[Section] = []
        self._sheet: list[list[np.ndarray]] = []
        self._curves: list[np.ndarray] = []

    def add(self, shown: "Shown", picture_HW3: np.ndarray, found: "Pooled") -> None:
        """Draw a picture, ``picture_HW3`` being the picture at the size it is drawn with."""
        about = {"picture": shown.source, **describe(found, self._labels, self._scale)}
        self._about.append(about)
        self._curves.append(win_curve(found.wins_P, found.channels))
        figures = draw_picture(shown.name, picture_HW3, found, self._labels, about, self._most)
        if len(self._sheet) < SHEET:
            shown_kinds = ("picture", "winners", "max", "mean", "cls")
            wanted = {f"{shown.name}.{kind}" for kind in shown_kinds}
            self._sheet.append([np.asarray(figure.image) for figure in figures if figure.name in wanted])
        kept = tuple(keep(figure, self._out) for figure in figures)
        self._sections.append(Section(shown.source, figures=kept, tables=picture_tables(about)))

    def report(self, failures: Sequence[tuple[str, str]]) -> Report:
        """The report on all pictures."""
        config, pools = self._config, list(self._about[0]["pooled"])
        columns = [list(column) for column in zip(*self._sheet, strict=True)]
        overview = Figure(
            "pooling.overview",
            montage(columns, SHEET_CELL),
            "Pictures, winners, and what each pooled vector is like",
            "From the top: the picture, how many channels each location wins, and likeness to the vector that "
            f"{_list([POOLS[name] for name in pools])} pooling gives.",
        )
        curve = Figure(
            "pooling.curve",
            draw_curves(self._curves),
            "How many locations make the pooled vector",
            "A line a picture, the mean in bold: how much of the channels those locations win that win most. On the "
            "dashed line all would win alike.",
        )
        whole = Section(
            "All pictures together",
            _EXPLAINED,
            (keep(overview, self._out), keep(curve, self._out)),
            (winners_table(self._about), *pools_tables(self._about, pools)),
        )
        return Report(
            "pooling",
            "What pooling looks at",
            self._lead(),
            (whole, *self._sections, *left_out(failures)),
            {
                "pool": config.vision.pool,
                "pool over prefix tokens": config.vision.pool_prefix,
                "pictures": self._about,
                "left out": [{"picture": source, "why": why} for source, why in failures],
            },
            {"model": config.name, "pool": config.vision.pool, "size": self._size, "labels": self._labels},
            overview.name,
        )

    def _lead(self) -> str:
        about, config = self._about, self._config
        winners = [100 * one["winners"]["locations that win"] / one["locations"] for one in about]
        channels = [one["channels"] for one in about]
        tenth = [100 * one["winners"]["share of channels won by the top locations"]["10 %"] for one in about]
        return (
            f"{config.name} makes one vector of a picture by {POOLS[config.vision.pool]} pooling. Under max pooling "
            f"{np.mean(winners):.0f} % of the locations win some of the {np.mean(channels):,.0f} channels that differ "
            f"from place to place, and the tenth of them that wins most wins {np.mean(tenth):.0f} % of the channels."
        )


def draw_picture(
    name: str, picture_HW3: np.ndarray, found: "Pooled", labels: Sequence[str], about: dict[str, Any], most: int
) -> list[Figure]:
    """The drawings of one picture: itself, who wins, what each vector is like, where cosines with labels come from.

    Args:
        name: What they are called.
        picture_HW3: The picture at the size it is drawn with.
        found: The picture, pooled.
        labels: Names of the labels it was compared with.
        about: Its numbers.
        most: At most so many labels are drawn, those nearest to the max-pooled vector.
    """
    highest = float(found.wins_P.max())
    figures = [
        Figure(f"{name}.picture", picture_HW3, "The picture"),
        Figure(
            f"{name}.winners",
            cells(np.sqrt(found.wins_P), found.grid, (0.0, max(highest, 1.0) ** 0.5), picture_HW3),
            "Channels won by each location",
            f"Dark none, bright {highest:,.0f}; by square roots.",
        ),
    ]
    for pool, values_P in found.likeness.items():
        low, high = (float(value) for value in np.percentile(values_P, ENDS))
        caption = f"Spread {about['pooled'][pool]['spread']:z.2f}. Dark {low:z.2f}, bright {high:z.2f}."
        image = heat(values_P, found.grid, (low, high), picture_HW3)
        figures.append(Figure(f"{name}.{pool}", image, f"Like the vector of {POOLS[pool]} pooling", _minus(caption)))
    for place in most_like(found, most) if len(labels) else ():
        for pool, added_KP in (("max", found.from_max_KP), ("mean", found.from_mean_KP)):
            added_P = added_KP[place]
            top = max(float(np.percentile(added_P, 99.5)), 1e-9)
            kind = f"{pool}-{place + 1:02d}-{safe_name(labels[place], 30)}"
            title = f"Where “{labels[place]}” comes from, {POOLS[pool]}"
            caption = f"Cosine {found.cosines[pool][place]:z.3f}. Each location's part; dark nothing or less."
            draw = cells if pool == "max" else heat
            figures.append(
                Figure(f"{name}.{kind}", draw(added_P, found.grid, (0.0, top), picture_HW3), title, _minus(caption))
            )
    return figures


def most_like(found: "Pooled", most: int) -> list[int]:
    """The labels that the max-pooled vector is most like, the nearest first, at most so many."""
    return np.argsort(-found.cosines["max"], kind="stable")[:most].tolist()


def picture_tables(about: dict[str, Any]) -> tuple[Table, ...]:
    """How each pooled vector lies over the picture, and a row a label."""
    rows = tuple(
        (POOLS[name], one["highest"], one["mean"], one["spread"], one["overlap with max"])
        for name, one in about["pooled"].items()
    )
    columns = ("pooling", "highest cosine", "mean cosine", "spread", "overlap with max")
    tables = [Table("What each pooled vector is like", columns, rows)]
    if "labels" in about:
        pools = list(about["pooled"])
        labels = sorted(about["labels"].items(), key=lambda item: -item[1]["cosines"]["max"])[:MOST_ROWS]
        tables.append(
            Table(
                "Labels",
                ("label", *(f"cosine by {POOLS[name]}" for name in pools), "locations for half of it, max"),
                tuple(
                    (name, *(one["cosines"][pool] for pool in pools), one["half of it from"]) for name, one in labels
                ),
                "Half of what is added to the cosine of max pooling comes from so many locations."
                + " The other labels are in the JSON file." * (len(about["labels"]) > MOST_ROWS),
            )
        )
    return tuple(tables)


def winners_table(about: Sequence[dict[str, Any]]) -> Table:
    """A row a picture: how few locations win how much."""
    with_prefix = any(one["winners"]["share of prefix tokens"] > 0 for one in about)
    rows = tuple(
        (
            one["picture"],
            one["locations"],
            one["channels"],
            one["winners"]["locations that win"],
            one["winners"]["effective locations"],
            *(100 * value for value in one["winners"]["share of channels won by the top locations"].values()),
            *((100 * one["winners"]["share of prefix tokens"],) if with_prefix else ()),
        )
        for one in about
    )
    shares = tuple(f"top {100 * share:g} % win" for share in TOP_SHARES)
    prefix = ("prefix tokens win, %",) if with_prefix else ()
    columns = ("picture", "locations", "channels", "winners", "effective", *shares, *prefix)
    caption = (
        "Channels: those that differ from place to place. Winners: locations that win some. Effective: how many that "
        "win alike would be as uneven."
    )
    return Table("Who wins under max pooling", columns, rows, caption)


def pools_tables(about: Sequence[dict[str, Any]], pools: Sequence[str]) -> tuple[Table, ...]:
    """Means over pictures of how each pooled vector lies over them."""
    rows = tuple(
        (
            POOLS[name],
            float(np.mean([one["pooled"][name]["highest"] for one in about])),
            float(np.mean([one["pooled"][name]["mean"] for one in about])),
            float(np.mean([one["pooled"][name]["spread"] for one in about])),
            float(np.mean([one["pooled"][name]["overlap with max"] for one in about])),
        )
        for name in pools
    )
    columns = ("pooling", "highest cosine", "mean cosine", "spread", "overlap with max")
    caption = (
        "Means over pictures. Spread: the part of the locations that the vector is like, weighed as the model's "
        f"softmax does; 1 is all alike. Overlap: IoU of the {100 * FOCUS:.0f} % of locations most like the vector with "
        "those most like max pooling's."
    )
    return (Table("What pooled vectors are like", columns, rows, caption),)


def win_curve(wins_P: np.ndarray, channels: int) -> np.ndarray:
    """The part of the channels won by the first parts of the locations, those that win most first; (STEPS,)."""
    won_P = np.concatenate([[0.0], np.sort(wins_P)[::-1].cumsum() / max(channels, 1)])
    return np.interp(np.linspace(0, 1, STEPS), np.linspace(0, 1, len(won_P)), won_P)


def draw_curves(curves: Sequence[np.ndarray]) -> bytes:
    """A line a picture and their mean, as a PNG file."""
    plot = new_plot(6.0, 3.4)
    axes = plot.add_subplot()
    across = np.linspace(0, 100, STEPS)
    for curve in curves:
        axes.plot(across, 100 * curve, color=BAR, alpha=max(0.05, min(0.5, 4 / len(curves))), linewidth=1)
    axes.plot(across, 100 * np.mean(curves, 0), color=BAR, linewidth=2.5)
    axes.plot([0, 100], [0, 100], color="#999999", linestyle="--", linewidth=1)
    axes.set_xlabel("% of locations, those that win most first", fontsize=9)
    axes.set_ylabel("% of channels", fontsize=9)
    axes.set_xlim(0, 100)
    axes.set_ylim(0, 102)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    return figure_png(plot)


def _minus(text: str) -> str:
    return text.replace(" -", " −")


def _list(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


_EXPLAINED = """
Max pooling takes every channel from the location where it is largest; that location wins the channel. Mean pooling
takes a little from everywhere, and a CLS token takes what it attends to. A location that is like a pooled vector is
what that vector says of the picture.

The cosine of a pooled vector with a label is a sum over channels. Under max pooling each channel's part belongs to the
location that won it, under mean pooling to all of them: that is where a label's cosine comes from.
"""
