"""Pictures of a report: a bar a class, and which class was taken for which.

Shapes: C class.
"""

import io
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from clippy_core.errors import DeviceError
from clippy_core.evaluation.benchmarks import Report
from clippy_core.files import write_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BARS, MATRIX = "classes.png", "confusion.png"
FIGURES = ("IoU", "top-1")
"""Columns of a report that are drawn as bars; the first that is there."""
MOST_BARS = 200
MOST_NAMES = 60
"""A matrix of more classes has numbers instead of names along its sides."""
DPI = 120
BAR, INK, GRID = "#2f6f9f", "#333333", "#dddddd"


def require_matplotlib() -> None:
    """Make sure that pictures can be drawn.

    Raises:
        DeviceError: Matplotlib is not installed.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise DeviceError(f'--plots needs matplotlib ({error}); pip install "clippy-vlm[plots]"') from error


def write_plots(folder: Path, report: Report, tell: Callable[[str], None] | None = None) -> tuple[Path, ...]:
    """Draw what the report has: ``classes.png`` of figures by class, ``confusion.png`` of counts; returns the files.

    Args:
        folder: Where they are written.
        report: What is drawn.
        tell: Hears, in one line, that names have letters which matplotlib's font lacks.

    Raises:
        DeviceError: Matplotlib is not installed.
    """
    require_matplotlib()
    figures: dict[Path, Figure] = {}
    metric, values = class_values(report)
    names = [str(row.get("class", index)) for index, row in enumerate(report.rows)]
    if values:
        figures[folder / BARS] = _draw_bars(report, metric, values)
    if report.confusion:
        figures[folder / MATRIX] = _draw_matrix(report, names)
    lacking = {letter for path, figure in figures.items() for letter in _write(path, figure)}
    boxed = sum(not lacking.isdisjoint(name) for name in names)
    if boxed and tell is not None:
        tell(f"names with letters that matplotlib's font lacks, drawn as boxes: {boxed:,}")
    return tuple(figures)


def class_values(report: Report) -> tuple[str, dict[str, float]]:
    """The figure that is drawn and its value for every class that has one, 0…1, highest first."""
    metric = next((name for name in FIGURES if any(name in row for row in report.rows)), FIGURES[0])
    found: dict[str, float] = {}
    for row in report.rows:
        try:
            value = float(row[metric])
        except (KeyError, TypeError, ValueError):
            continue  # a class that is not there, or a row that is no class
        if not np.isnan(value):
            found[str(row.get("class", len(found)))] = value
    return metric, dict(sorted(found.items(), key=lambda item: -item[1]))


def shares(report: Report) -> np.ndarray:
    """The confusion matrix with every row as shares of its class, ``float64`` (C, C + 1), 0…1; NaN for absent ones."""
    counts_CC = np.array(report.confusion, np.float64)
    total_C1 = counts_CC.sum(1, keepdims=True)
    return np.divide(counts_CC, total_C1, out=np.full_like(counts_CC, np.nan), where=total_C1 > 0)


def _draw_bars(report: Report, metric: str, values: dict[str, float]) -> "Figure":
    from matplotlib.figure import Figure

    title, mean = f"{report.benchmark}: {metric} by class", float(np.mean(list(values.values())))
    names, heights = list(values), list(values.values())
    if len(names) > MOST_BARS:
        half = MOST_BARS // 2
        names, heights = names[:half] + names[-half:], heights[:half] + heights[-half:]
        title += f", the {half} highest and the {half} lowest of {len(values):,}"
    figure = Figure(figsize=(7.0, 1.2 + 0.2 * len(names)), layout="constrained")
    axes = figure.add_subplot()
    places = range(len(names))
    axes.barh(places, heights, height=0.7, color=BAR)
    for place, height in zip(places, heights, strict=True):
        axes.text(height + 0.008, place, f"{100 * height:.1f}", va="center", fontsize=7, color=INK)
    axes.axvline(mean, color=INK, linewidth=0.8, linestyle="--")
    axes.set_yticks(places, [_plain(name) for name in names], fontsize=8)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlim(0, min(1.08, max([*heights, mean]) * 1.1 + 0.03))
    axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f}")
    axes.set_xlabel(f"{metric}, %  (dashed: mean of the classes, {100 * mean:.1f})", fontsize=8)
    axes.tick_params(axis="x", labelsize=8)
    axes.grid(axis="x", color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.set_title(title, fontsize=10, loc="left")
    return figure


def _draw_matrix(report: Report, names: list[str]) -> "Figure":
    from matplotlib.figure import Figure

    shares_CC = shares(report)
    count, columns = shares_CC.shape
    labels = [_plain(name) for name in names] if len(names) == count <= MOST_NAMES else None
    side = 2.5 + 0.17 * min(count, MOST_NAMES)
    figure = Figure(figsize=(side + 1.0, side), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(100 * shares_CC, cmap="Blues", vmin=0, vmax=100, interpolation="nearest")
    if labels is not None:
        axes.set_xticks(range(columns), [*labels, "none"][:columns], rotation=90, fontsize=7)
        axes.set_yticks(range(count), labels, fontsize=7)
    axes.set_xlabel("predicted" + ("" if labels else ", by number; the last is none"), fontsize=8)
    axes.set_ylabel("true" + ("" if labels else ", by number") + " (white: in no mask)", fontsize=8)
    axes.set_title(f"{report.benchmark}: what became of the pixels of each class", fontsize=10, loc="left")
    bar = figure.colorbar(image, ax=axes, shrink=0.6)
    bar.set_label("% of the class's pixels", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    return figure


def _plain(text: str) -> str:
    r"""Text that matplotlib does not take for a formula."""
    return text.replace("$", r"\$")


def _write(path: Path, figure: "Figure") -> set[str]:
    """Write a picture; returns the letters that matplotlib's font lacks."""
    buffer = io.BytesIO()
    with warnings.catch_warnings(record=True) as caught:
        warnings.filterwarnings("always", message="Glyph .* missing from")
        figure.savefig(buffer, format="png", dpi=DPI)
    write_bytes(path, buffer.getvalue())
    lacking = set()
    for warning in caught:
        if match := re.match(r"Glyph (\d+) ", str(warning.message)):
            lacking.add(chr(int(match[1])))
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    return lacking
