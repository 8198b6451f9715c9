"""Drawings about all locations together: the map, and what principal components tell.

Shapes: S location, D embedding, 2 coordinate, C component.
"""

from typing import TYPE_CHECKING

import numpy as np

from clippy_core.analysis.report import figure_png, new_plot
from clippy_core.segmentation.palette import PALETTE_N3

if TYPE_CHECKING:
    from clippy_core.analysis.features.run import Seen
    from clippy_core.analysis.words import Words

MOST_DOTS = 1500
FEWEST_DOTS = 12
PERPLEXITY = 30.0
MOST_NAMES = 20
MOST_BARS = 16
GREY = "#9aa0a6"
BAR = "#2f6f9f"


def draw_map(seen: "Seen", words: "Words | None") -> bytes | None:
    """The map as a PNG file; None for too few locations.

    With labels, dots have the colour of the nearest one, and the most frequent ones are in the legend; without, they
    have the colours of the pictures.
    """
    place_S = np.unique(np.linspace(0, len(seen.kept_SD) - 1, MOST_DOTS).round().astype(int))
    if len(place_S) < FEWEST_DOTS:
        return None
    features_SD = seen.kept_SD[place_S]
    scores_SC = seen.basis.project(features_SD)
    at_S2 = embed_2d(scores_SC)
    plot = new_plot(8.0, 6.4)
    axes = plot.add_subplot()
    if words is None:
        low_C, high_C = seen.spans["components"][:3].T
        colours = np.clip((scores_SC[:, :3] - low_C) / np.maximum(high_C - low_C, 1e-12), 0, 1)
        colours = np.pad(colours, ((0, 0), (0, 3 - colours.shape[1])))
        axes.scatter(*at_S2.T, c=colours, s=9, linewidths=0)
    else:
        nearest_S = words.cosines(features_SD).argmax(1)
        counts = np.bincount(nearest_S, minlength=len(words.names))
        for order, label in enumerate(np.argsort(-counts, kind="stable").tolist()):
            if not counts[label]:
                break
            named = order < MOST_NAMES
            colour = PALETTE_N3[label % len(PALETTE_N3)] / 255 if named else GREY
            text = words.names[label].replace("$", r"\$")[:40] if named else None
            axes.scatter(*at_S2[nearest_S == label].T, color=colour, s=9, linewidths=0, label=text)
        plot.legend(loc="outside right upper", fontsize=8, markerscale=2.5, frameon=False)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    return figure_png(plot)


def embed_2d(scores_SC: np.ndarray) -> np.ndarray:
    """Two coordinates a location by t-SNE on its principal components, started from the first two; no chance in it."""
    from sklearn.manifold import TSNE

    perplexity = min(PERPLEXITY, (len(scores_SC) - 1) / 3)
    return TSNE(perplexity=perplexity, init="pca", random_state=0, n_jobs=1).fit_transform(scores_SC)


def draw_shares(share_C: np.ndarray) -> bytes:
    """Bars of the share of variance of the first components, as a PNG file."""
    share_C = share_C[:MOST_BARS]
    plot = new_plot(6.0, 2.6)
    axes = plot.add_subplot()
    axes.bar(np.arange(1, len(share_C) + 1), 100 * share_C, color=BAR, width=0.7)
    axes.set_xlabel("principal component", fontsize=9)
    axes.set_ylabel("% of variance", fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    return figure_png(plot)
