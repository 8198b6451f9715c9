"""Drawings of many things at once: a matrix as colours, and pictures and words in one plane.

Shapes: N picture, K label, R row, C column, D embedding, H/W pixel.
"""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from clippy_core.analysis.report import figure_png, new_plot
from clippy_core.errors import UsageError
from clippy_core.segmentation.palette import PALETTE_N3

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PROJECTIONS = ("tsne", "pca")
FEWEST_FOR_TSNE = 8
PERPLEXITY = 30.0
DIRECTIONS = 32
"""Principal components that t-SNE is given."""
NUMBERED = 24
"""A matrix with at most so many rows and columns has its values written in."""
ACROSS = 22
"""Cells across a map; of pictures in one cell, the one nearest to its middle is shown small, the others as dots."""
LONGEST_NAME = 28
LETTER = 0.065
"""Width of a letter in inches, at the size that a matrix is named in."""
LOWEST_MATRIX, TALLEST_SCALE = 1.2, 3.0
"""Inches: a matrix is at least so tall, and the scale beside it at most."""
INK = "#333333"


@dataclass(frozen=True)
class Shade:
    """How values become colours.

    Attributes:
        colours: A colour map of matplotlib.
        low: The value at its lower end; below it the colour stays.
        high: The value at its upper end.
        meaning: What the values are, for the scale beside.
        form: How a value is written into its cell, such as ``".2f"``.
    """

    colours: str
    low: float
    high: float
    meaning: str
    form: str = ".2f"


def plain(text: str, longest: int = LONGEST_NAME) -> str:
    """Text cut to a length, that matplotlib does not take for a formula."""
    return (text if len(text) <= longest else text[: longest - 1] + "…").replace("$", r"\$")


def heat_map(
    values_RC: np.ndarray, rows: Sequence[str], columns: Sequence[str], shade: Shade, *, links: np.ndarray | None = None
) -> bytes:
    """A matrix as coloured cells with names, as a PNG file; NaN is an empty cell.

    Args:
        values_RC: The values.
        rows: A name a row.
        columns: A name a column.
        shade: How values become colours.
        links: What scipy's ``linkage`` says of the columns, in whose leaves' order they are; drawn as a tree on top.
    """
    count, across = values_RC.shape
    cell = 0.42 if max(count, across) <= NUMBERED else 0.22
    tree = 0.9 if links is not None else 0.0
    tall = max(cell * count, LOWEST_MATRIX)
    below = max(1.5, 0.4 + LETTER * max(len(plain(name)) for name in columns))
    plot = new_plot(2.6 + cell * across, below + tall + tree)
    if links is not None:
        upper, axes = plot.subplots(2, 1, height_ratios=(tree, tall), sharex=False)
        _tree(upper, links)
    else:
        axes = plot.add_subplot()
    masked = np.ma.masked_invalid(values_RC)
    image = axes.imshow(masked, cmap=shade.colours, vmin=shade.low, vmax=shade.high, aspect="auto")
    small = 8 if cell > 0.3 else 6.5
    axes.set_xticks(range(across), [plain(name) for name in columns], rotation=90, fontsize=small)
    axes.set_yticks(range(count), [plain(name) for name in rows], fontsize=small)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    if max(count, across) <= NUMBERED:
        _write_values(axes, values_RC, shade, image)
    bar = plot.colorbar(image, ax=axes, shrink=min(1.0, TALLEST_SCALE / tall), aspect=14, pad=0.02)
    # The layout keeps no room above and below for words that are longer than the scale.
    bar.set_label(textwrap.fill(plain(shade.meaning, 60), int(min(tall, TALLEST_SCALE) / LETTER)), fontsize=8)
    bar.ax.tick_params(labelsize=7)
    bar.outline.set_visible(False)  # type: ignore[operator]
    return figure_png(plot)


def _write_values(axes: "Axes", values_RC: np.ndarray, shade: Shade, image: Any) -> None:
    for (row, column), value in np.ndenumerate(values_RC):
        if np.isfinite(value):
            red, green, blue, _ = image.cmap(image.norm(value))
            dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
            text = format(value, shade.form)
            text = text.lstrip("+-") if float(text) == 0 else text
            axes.text(column, row, text, ha="center", va="center", fontsize=7, color="white" if dark else INK)


def _tree(axes: "Axes", links: np.ndarray) -> None:
    """How columns join into groups; leaves stand over their columns."""
    from scipy.cluster.hierarchy import dendrogram

    # Leaves lie at 5, 15, 25, …, so that a column has a width of ten.
    dendrogram(links, ax=axes, no_labels=True, color_threshold=0, above_threshold_color="#5b6670")
    axes.set_xlim(0, 10 * (len(links) + 1))
    axes.set_axis_off()


def by_likeness(cosines_KK: np.ndarray) -> np.ndarray:
    """Average linkage of labels by 1 − cosine, leaves ordered such that neighbours are alike: scipy's ``linkage``."""
    from scipy.cluster.hierarchy import linkage
    from scipy.spatial.distance import squareform

    distances_KK = np.clip(1 - (cosines_KK + cosines_KK.T) / 2, 0, None)
    np.fill_diagonal(distances_KK, 0)
    return linkage(squareform(distances_KK, checks=False), "average", optimal_ordering=True)


def project(vectors_ND: np.ndarray, method: str = "tsne") -> np.ndarray:
    """Two coordinates a vector, ``float64`` (N, 2), each axis about 0; the same vectors give the same coordinates.

    Args:
        vectors_ND: Unit vectors.
        method: ``tsne``, on the first principal components and started from them, or ``pca``. Fewer than eight vectors
            have no neighbourhoods to keep and get ``pca``.

    Raises:
        UsageError: Another method.
    """
    if method not in PROJECTIONS:
        raise UsageError(f"--projection is {method!r}; accepted: {', '.join(PROJECTIONS)}")
    from sklearn.decomposition import PCA

    vectors_ND = vectors_ND.astype(np.float64)
    directions = min(2 if method == "pca" else DIRECTIONS, *vectors_ND.shape)
    if np.ptp(vectors_ND, axis=0).max() == 0:  # one vector, or copies of one: nothing to tell apart
        return np.zeros((len(vectors_ND), 2))
    reduced_NC = PCA(directions, svd_solver="full").fit_transform(vectors_ND)
    if method == "pca" or len(vectors_ND) < FEWEST_FOR_TSNE:
        return np.pad(reduced_NC[:, :2], ((0, 0), (0, max(0, 2 - reduced_NC.shape[1]))))
    from sklearn.manifold import TSNE

    perplexity = min(PERPLEXITY, (len(vectors_ND) - 1) / 3)
    return TSNE(perplexity=perplexity, init="pca", random_state=0, n_jobs=1).fit_transform(reduced_NC)


def picture_map(
    at_N2: np.ndarray,
    small: Sequence[np.ndarray],
    kind_N: np.ndarray,
    at_K2: np.ndarray,
    names: Sequence[str],
    *,
    most_names: int = 40,
) -> bytes:
    """Pictures and words in one plane, as a PNG file.

    Args:
        at_N2: Where each picture is.
        small: Each picture, small, ``uint8`` RGB.
        kind_N: Each picture's label; gives the colour of its frame or dot.
        at_K2: Where each label is.
        names: What each label is called.
        most_names: So many labels are written, those of most pictures first.
    """
    from matplotlib.offsetbox import AnnotationBbox, OffsetImage

    plot = new_plot(9.5, 8.0)
    axes = plot.add_subplot()
    everything_2N = np.concatenate([at_N2, at_K2]).T
    low_2, high_2 = everything_2N.min(1), everything_2N.max(1)
    room_2 = np.maximum(high_2 - low_2, 1e-9)
    axes.set_xlim(low_2[0] - 0.06 * room_2[0], high_2[0] + 0.06 * room_2[0])
    axes.set_ylim(low_2[1] - 0.06 * room_2[1], high_2[1] + 0.06 * room_2[1])
    shown = _one_a_cell((at_N2 - low_2) / room_2)
    hidden = np.setdiff1d(np.arange(len(at_N2)), shown)
    colours_N3 = PALETTE_N3[kind_N % len(PALETTE_N3)] / 255
    axes.scatter(*at_N2[hidden].T, c=colours_N3[hidden], s=14, linewidths=0)
    for place in shown.tolist():
        height, width = small[place].shape[:2]
        box = OffsetImage(small[place], zoom=30 / max(height, width), resample=True)
        frame = {"edgecolor": colours_N3[place], "linewidth": 1.6, "boxstyle": "square,pad=0"}
        axes.add_artist(AnnotationBbox(box, tuple(at_N2[place]), pad=0.08, bboxprops=frame))
    counts_K = np.bincount(kind_N, minlength=len(names))
    written = np.argsort(-counts_K, kind="stable")[:most_names]
    moved_K2 = at_K2.copy()
    shown_names = [names[label] for label in map(int, written)]
    moved_K2[written] = low_2 + room_2 * _apart((at_K2[written] - low_2) / room_2, shown_names)
    for label in map(int, written):
        colour = PALETTE_N3[label % len(PALETTE_N3)] / 255
        frame = {
            "facecolor": "white",
            "edgecolor": colour,
            "alpha": 0.9,
            "boxstyle": "round,pad=0.25",
            "linewidth": 1.4,
        }
        x, y = moved_K2[label].tolist()
        axes.text(x, y, plain(names[label]), fontsize=9, ha="center", va="center", bbox=frame, zorder=5)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_color("#cccccc")
    return figure_png(plot)


def _one_a_cell(place_N2: np.ndarray) -> np.ndarray:
    """Of points in the unit square, for each cell of a grid the one nearest to the cell's middle."""
    scaled_N2 = np.clip(place_N2 * ACROSS, 0, ACROSS - 1e-6)
    cell_N2 = np.floor(scaled_N2)
    number_N = (cell_N2[:, 1] * ACROSS + cell_N2[:, 0]).astype(int)
    off_N = np.square(scaled_N2 - cell_N2 - 0.5).sum(1)
    order_N = np.lexsort((off_N, number_N))
    first = np.unique(number_N[order_N], return_index=True)[1]
    return np.sort(order_N[first])


def _apart(place_N2: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Places of words in the unit square, moved up or down as little as it takes for none to hide another."""
    placed: list[tuple[float, float, float]] = []
    for (x, y), name in zip(place_N2.tolist(), names, strict=True):
        width = 0.011 * min(len(name), LONGEST_NAME) + 0.02
        for step in range(60):
            up = y + 0.034 * ((step + 1) // 2) * (1 if step % 2 else -1)
            if all(abs(x - x2) > (width + w2) / 2 or abs(up - y2) > 0.033 for x2, y2, w2 in placed):
                break
        placed.append((x, up, width))
    return np.array([(x, y) for x, y, _ in placed]).reshape(-1, 2)
