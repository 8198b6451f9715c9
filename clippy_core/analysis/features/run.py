"""What the features of pictures' locations show: what is alike, across pictures, and what answers to a word.

Every picture is looked at once. What drawing needs of it waits on disk until all are seen, because colours mean the
same in all of them: principal components and the ends of scales are of all pictures together.

Shapes: P = h·w location, D embedding, K label, Q point asked about, C component, N prefix token, S kept location,
H/W pixel, h/w grid.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from clippy_core import events
from clippy_core.analysis.features.spool import Spool
from clippy_core.analysis.look import Look, look
from clippy_core.analysis.pictures import Pictures, Shown
from clippy_core.analysis.principal import Basis, Principal, effective_number
from clippy_core.analysis.report import Report, require_extra
from clippy_core.analysis.words import Words, embed
from clippy_core.errors import UsageError
from clippy_core.prompts import Label
from clippy_core.segmentation.inputs import Input

if TYPE_CHECKING:
    from clippy_core.segmentation.segmenter import Segmenter

COMPONENTS = 32
"""Principal components of all locations; the map is made from them."""
KEPT = 4096
"""Locations of all pictures together that scales and the map are made from."""
ENDS = (1.0, 99.0)
"""Percentiles at which scales end, so that a few odd locations do not take all the contrast."""
WORD_ENDS = (25.0, 99.8)
"""The same for similarities, where what matters is rare and high."""


@dataclass(frozen=True)
class FeaturesOptions:
    """What to look at.

    Attributes:
        size: Short side in pixels that pictures are resized to; None for the model's own.
        labels: What similarities are shown for, and what colours the map.
        points: Places of the first picture, (x, y) in pixels as displayed from the top left corner, that everything is
            compared with.
        map: Whether to draw the map, which takes seconds.
    """

    size: int | None = None
    labels: tuple[Label, ...] = ()
    points: tuple[tuple[float, float], ...] = ()
    map: bool = True


@dataclass(eq=False)
class Seen:
    """What is known of all pictures once each was looked at.

    Attributes:
        basis: Principal components of all locations.
        spans: Ends of scales by name: ``components`` (C, 2), ``labels`` (K, 2), ``points`` (Q, 2).
        lengths: Ends of scales of lengths, by level.
        kept_SD: Unit features of some locations of every picture.
        kept_from_S: The picture each is from.
        points_QD: Unit features at the points asked about.
        pictures: What of each picture goes into the report.
    """

    basis: Basis
    spans: dict[str, np.ndarray]
    lengths: dict[str, tuple[float, float]]
    kept_SD: np.ndarray
    kept_from_S: np.ndarray
    points_QD: np.ndarray
    pictures: list[dict[str, Any]] = field(default_factory=list)


def analyse_features(
    segmenter: "Segmenter",
    inputs: Sequence[Input],
    options: FeaturesOptions,
    out: Path,
    sink: events.Sink = events.ignore,
) -> Report:
    """Look at pictures and draw what their features show; drawings are written as they are made.

    Args:
        segmenter: The model.
        inputs: The pictures.
        options: What to look at.
        out: Folder for the drawings.
        sink: Told of every picture twice: when it was looked at, and when it was drawn.

    Returns:
        The report, to be written by :func:`~clippy_core.analysis.report.write_report`; pictures that could not be used
        are in ``numbers["left out"]``.

    Raises:
        DeviceError: Matplotlib or scikit-learn is missing.
        UsageError: A point that is not on the first picture, or a model that cannot be looked into.
        DataError: No picture can be used.
        OSError: A file cannot be written.
    """
    require_extra()
    from clippy_core.analysis.features.report import draw

    words = embed(segmenter, options.labels) if options.labels else None
    pictures = Pictures(inputs, sink, strict=1 if options.points else 0)
    with Spool(out) as spool:
        seen = _look_at_all(segmenter, pictures, spool, words, options)
        return draw(segmenter.config, seen, spool, words, options, out, pictures.failures, sink)


def _look_at_all(
    segmenter: "Segmenter", pictures: Pictures, spool: Spool, words: Words | None, options: FeaturesOptions
) -> Seen:
    principal, kept, kept_from, about = Principal(), [], [], []
    lengths: dict[str, list[np.ndarray]] = {}
    points_QD = np.zeros((0, 0), np.float32)
    for shown in pictures:
        if shown.number == 0:
            check_points(options.points, shown)
        found = look(segmenter, shown.pixels_HW3, options.size)
        unit_PD = found.unit_PD
        if shown.number == 0 and options.points:
            cells = [cell_at(point, found.grid, shown.pixels_HW3.shape[:2]) for point in options.points]
            points_QD = unit_PD[cells]
        principal.add(unit_PD)
        chosen = spread(len(unit_PD), quota(shown.number, pictures.total), shown.number)
        kept.append(unit_PD[chosen])
        for name, length_P in found.lengths.items():
            lengths.setdefault(name, []).append(length_P[chosen])
        kept_from += [shown.number] * len(chosen)
        about.append({"picture": shown.source, "name": shown.name, **describe(found, shown, words, points_QD)})
        spool.add(
            {
                "unit_PD": unit_PD,
                "grid": np.array(found.grid),
                "attention_NP": np.zeros((0, 0)) if found.attention_NP is None else found.attention_NP,
                "picture_HW3": pictures.canvas(shown),
                **{f"length of {name}": length_P for name, length_P in found.lengths.items()},
            }
        )
    basis, kept_SD = principal.basis(COMPONENTS), np.concatenate(kept)
    spans = {
        "components": _span(basis.project(kept_SD), ENDS),
        "points": _span(kept_SD @ points_QD.T, WORD_ENDS) if len(points_QD) else np.zeros((0, 2)),
        "labels": _span(words.cosines(kept_SD), WORD_ENDS) if words else np.zeros((0, 2)),
    }
    ends = {name: tuple(np.percentile(np.concatenate(parts), ENDS).tolist()) for name, parts in lengths.items()}
    return Seen(basis, spans, ends, kept_SD, np.array(kept_from), points_QD, about)


def _span(values_SC: np.ndarray, ends: tuple[float, float]) -> np.ndarray:
    """Both ends of the scale of each column, (C, 2)."""
    return np.percentile(values_SC, ends, axis=0).T


def describe(found: Look, shown: Shown, words: Words | None, points_QD: np.ndarray) -> dict[str, Any]:
    """The numbers of one picture, as plain data."""
    unit_PD, size = found.unit_PD, shown.pixels_HW3.shape[:2]
    about: dict[str, Any] = {
        "width": size[1],
        "height": size[0],
        "grid": list(found.grid),
        "lengths": {
            name: {"mean": row_P.mean(), "std": row_P.std(), "lowest": row_P.min(), "highest": row_P.max()}
            for name, row_P in found.lengths.items()
        },
    }
    if words is not None:
        cosines_PK = words.cosines(unit_PD)
        nearest_P = cosines_PK.argmax(1)
        about["labels"] = {
            name: {**peak(cosines_PK[:, place], found.grid, size), "nearest for": float((nearest_P == place).mean())}
            for place, name in enumerate(words.names)
        }
    if len(points_QD):
        about["points"] = [peak(unit_PD @ point_D, found.grid, size) for point_D in points_QD]
    if found.attention_NP is not None:
        about["attention"] = {
            name: {
                "on locations": row_P.sum(),
                "effective locations": effective_number(row_P),
                "highest": row_P.max(),
            }
            for name, row_P in zip(prefix_names(len(found.attention_NP)), found.attention_NP, strict=True)
        }
    return about


def prefix_names(count: int) -> list[str]:
    """What prefix tokens are called: CLS, then registers."""
    return ["CLS", *(f"register {number}" for number in range(1, count))][:count]


def peak(values_P: np.ndarray, grid: tuple[int, int], size: tuple[int, int]) -> dict[str, Any]:
    """Mean and highest value on a grid, and the middle of the cell that has it as (x, y) in pixels of the picture."""
    row, column = divmod(int(values_P.argmax()), grid[1])
    at = [round((column + 0.5) * size[1] / grid[1], 1), round((row + 0.5) * size[0] / grid[0], 1)]
    return {"mean": values_P.mean(), "highest": values_P.max(), "at": at}


def check_points(points: Sequence[tuple[float, float]], shown: Shown) -> None:
    """Make sure that points lie on a picture.

    Raises:
        UsageError: One does not; the message has the picture's size.
    """
    height, width = shown.pixels_HW3.shape[:2]
    for x, y in points:
        if not (0 <= x < width and 0 <= y < height):
            raise UsageError(
                f"--point {x:g},{y:g} is not on {shown.source}; accepted: x below {width} and y below {height}, from 0"
            )


def cell_at(point: tuple[float, float], grid: tuple[int, int], size: tuple[int, int]) -> int:
    """Number of the location whose cell a point of the picture lies in.

    Args:
        point: (x, y) in pixels.
        grid: (h, w).
        size: (H, W) of the picture.
    """
    row, column = (int(value * cells / pixels) for value, cells, pixels in zip(point[::-1], grid, size, strict=True))
    return row * grid[1] + column


def quota(number: int, total: int) -> int:
    """How many locations are kept of picture ``number`` of ``total``: alike for all, and :data:`KEPT` of all together.

    The first keeps at least one, so that something is kept if the others cannot be used.
    """
    return max((number + 1) * KEPT // total - number * KEPT // total, int(number == 0))


def spread(count: int, wanted: int, seed: int) -> np.ndarray:
    """Up to ``wanted`` of ``count`` places at random, in order; the same ones for the same ``seed``."""
    if count <= wanted:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, wanted, replace=False))
