"""Which locations a picture's one vector comes from, and what would come of pooling them otherwise.

Max-pooling takes every channel from the location where it is largest: that location wins the channel. A cosine between
the pooled vector and a label is a sum over channels, so it can be handed back to the winners without remainder.

Shapes: P = h·w location, N prefix token, T = N + P or P token, D channel, K label, H/W pixel.
Source: *Perceptual Grouping in Contrastive Vision-Language Models* (arXiv 2210.09996), section 3 (max over locations).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from clippy_core import events
from clippy_core.analysis.look import Look, look, unit
from clippy_core.analysis.pictures import Pictures
from clippy_core.analysis.principal import effective_number
from clippy_core.analysis.report import Report, require_extra
from clippy_core.analysis.words import Words, embed
from clippy_core.prompts import Label
from clippy_core.segmentation.inputs import Input

if TYPE_CHECKING:
    from clippy_core.segmentation.segmenter import Segmenter

TOP_SHARES = (0.01, 0.05, 0.1, 0.25)
"""Parts of the locations, those that win most first, whose share of channels is told."""
FOCUS = 0.2
"""Part of the locations that are what a pooled vector points at: those most like it."""


@dataclass(frozen=True)
class PoolingOptions:
    """What to look at.

    Attributes:
        size: Short side in pixels that pictures are resized to; None for the model's own.
        labels: What cosines are traced back for.
    """

    size: int | None = None
    labels: tuple[Label, ...] = ()


@dataclass(frozen=True, eq=False)
class Pooled:
    """One picture pooled in every way its tower allows.

    Attributes:
        grid: (h, w).
        channels: How many channels someone wins.
        dead: How many channels nobody wins, because they are the same everywhere.
        wins_P: How many channels each location wins; those that win one together share it.
        prefix_wins: How many channels prefix tokens win.
        vectors: Unit vectors (D,) by pooling: ``max``, ``mean``, and ``cls`` where there is a CLS token.
        likeness: Cosine of every location with each of those vectors, (P,).
        cosines: Cosine of each of those vectors with every label, (K,).
        from_max_KP: What each location adds to the cosine of ``max`` with each label; prefix tokens add the rest.
        from_mean_KP: The same for ``mean``.
    """

    grid: tuple[int, int]
    channels: int
    dead: int
    wins_P: np.ndarray
    prefix_wins: float
    vectors: dict[str, np.ndarray]
    likeness: dict[str, np.ndarray]
    cosines: dict[str, np.ndarray]
    from_max_KP: np.ndarray
    from_mean_KP: np.ndarray


def analyse_pooling(
    segmenter: "Segmenter",
    inputs: Sequence[Input],
    options: PoolingOptions,
    out: Path,
    sink: events.Sink = events.ignore,
) -> Report:
    """Pool pictures in every way and draw where each looks; drawings are written as they are made.

    Args:
        segmenter: The model.
        inputs: The pictures.
        options: What to look at.
        out: Folder for the drawings.
        sink: Told of every picture.

    Returns:
        The report; pictures that could not be used are in ``numbers["left out"]``.

    Raises:
        DeviceError: Matplotlib or scikit-learn is missing.
        UsageError: A model that cannot be looked into.
        DataError: No picture can be used.
        OSError: A file cannot be written.
    """
    require_extra()
    from clippy_core.analysis.pooling.report import Drawing

    words = embed(segmenter, options.labels) if options.labels else None
    pictures = Pictures(inputs, sink)
    scale = float(segmenter.model.logit_scale.detach().exp().clamp(max=100.0))
    drawing = Drawing(segmenter.config, options, out, scale, few=pictures.few)
    with_prefix = segmenter.config.vision.pool_prefix
    for shown in pictures:
        found = pool(look(segmenter, shown.pixels_HW3, options.size), words, with_prefix=with_prefix)
        drawing.add(shown, pictures.canvas(shown), found)
    return drawing.report(pictures.failures)


def pool(found: Look, words: Words | None, *, with_prefix: bool) -> Pooled:
    """Pool what a tower said of a picture.

    Args:
        found: Features of locations and prefix tokens, not normalised.
        words: Labels to compare with, or None.
        with_prefix: Whether max and mean are over prefix tokens too, as the model's configuration says.
    """
    prefix = len(found.prefix_ND) if with_prefix else 0
    tokens_TD = np.concatenate([found.prefix_ND[:prefix], found.patches_PD]).astype(np.float64)
    won_TD = winners(tokens_TD)
    dead_D = tokens_TD.max(0) == tokens_TD.min(0)
    wins_T = won_TD[:, ~dead_D].sum(1)
    raw = {"max": tokens_TD.max(0), "mean": tokens_TD.mean(0)}
    if len(found.prefix_ND):
        raw["cls"] = found.prefix_ND[0].astype(np.float64)
    vectors = {name: unit(vector_D) for name, vector_D in raw.items()}
    unit_PD = found.unit_PD
    likeness = {name: unit_PD @ vector_D for name, vector_D in vectors.items()}
    cosines, from_max_KP, from_mean_KP = {}, np.zeros((0, len(unit_PD))), np.zeros((0, len(unit_PD)))
    if words is not None:
        nearest = {name: words.best_words(vector_D.astype(np.float32)) for name, vector_D in vectors.items()}
        cosines = {name: nearest[name] @ vectors[name] for name in vectors}
        # A channel's part of the cosine goes to those that won it.
        from_max_KP = (nearest["max"] * vectors["max"]) @ won_TD[prefix:].T
        length = max(float(np.linalg.norm(raw["mean"])), 1e-12) * len(tokens_TD)
        from_mean_KP = nearest["mean"] @ tokens_TD[prefix:].T / length
    return Pooled(
        found.grid,
        int((~dead_D).sum()),
        int(dead_D.sum()),
        wins_T[prefix:],
        float(wins_T[:prefix].sum()),
        vectors,
        likeness,
        cosines,
        from_max_KP,
        from_mean_KP,
    )


def winners(tokens_TD: np.ndarray) -> np.ndarray:
    """How much of each channel every token wins, (T, D): all of it, or an equal share among those that are largest."""
    largest_TD = tokens_TD == tokens_TD.max(0)
    return largest_TD / largest_TD.sum(0)


def won_by_top(wins_P: np.ndarray, channels: int, share: float) -> float:
    """The part of all channels won by the locations that win most.

    Args:
        wins_P: How many channels each location wins.
        channels: How many there are in all.
        share: Which part of the locations, at least one.
    """
    top = max(1, round(share * len(wins_P)))
    return float(np.sort(wins_P)[::-1][:top].sum() / max(channels, 1))


def spread(values_P: np.ndarray, scale: float) -> float:
    """Over what part of the locations a likeness is spread, above 0 up to 1: 1 if it is the same for all.

    It is the effective number of locations when each has the weight that the model's softmax gives it, over all.

    Args:
        values_P: Cosines.
        scale: The model's factor on cosines.
    """
    weights_P = np.exp(scale * (values_P - values_P.max()))
    return effective_number(weights_P) / len(values_P)


def focus(values_P: np.ndarray, share: float = FOCUS) -> np.ndarray:
    """The locations with the highest values, that part of all of them and at least one; true or false, (P,)."""
    top = max(1, round(share * len(values_P)))
    chosen_P = np.zeros(len(values_P), bool)
    chosen_P[np.argsort(-values_P, kind="stable")[:top]] = True
    return chosen_P


def overlap(a_P: np.ndarray, b_P: np.ndarray) -> float:
    """Intersection over union of two sets of locations, 0…1."""
    return float((a_P & b_P).sum() / max((a_P | b_P).sum(), 1))


def describe(found: Pooled, words: Sequence[str], scale: float) -> dict[str, Any]:
    """The numbers of one picture, as plain data.

    Args:
        found: The picture, pooled.
        words: Names of the labels it was compared with.
        scale: The model's factor on cosines.
    """
    focuses = {name: focus(values_P) for name, values_P in found.likeness.items()}
    about: dict[str, Any] = {
        "grid": list(found.grid),
        "locations": len(found.wins_P),
        "channels": found.channels,
        "channels that are the same everywhere": found.dead,
        "winners": {
            "locations that win": int((found.wins_P > 0).sum()),
            "most channels of one location": found.wins_P.max(),
            "effective locations": effective_number(found.wins_P),
            "share of prefix tokens": found.prefix_wins / max(found.channels, 1),
            "share of channels won by the top locations": {
                f"{100 * share:g} %": won_by_top(found.wins_P, found.channels, share) for share in TOP_SHARES
            },
        },
        "pooled": {
            name: {
                "highest": values_P.max(),
                "mean": values_P.mean(),
                "spread": spread(values_P, scale),
                "overlap with max": overlap(focuses[name], focuses["max"]),
            }
            for name, values_P in found.likeness.items()
        },
    }
    if len(words):
        # Where prefix tokens win nothing, they add nothing, and not what rounding leaves of a difference.
        rest_K = found.cosines["max"] - found.from_max_KP.sum(1) if found.prefix_wins else np.zeros(len(words))
        about["labels"] = {
            label: {
                "cosines": {name: values_K[place] for name, values_K in found.cosines.items()},
                "half of it from": locations_for_half(found.from_max_KP[place]),
                "from prefix tokens": rest_K[place],
            }
            for place, label in enumerate(words)
        }
    return about


def locations_for_half(added_P: np.ndarray) -> int:
    """How few locations hold half of all that is added to a cosine; 0 if nothing is."""
    ordered_P = np.sort(np.maximum(added_P, 0))[::-1].cumsum()
    return int(np.searchsorted(ordered_P, ordered_P[-1] / 2) + 1) if ordered_P[-1] > 0 else 0
