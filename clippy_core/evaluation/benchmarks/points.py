"""Hand-labelled points: is the label at this point the one a person gave it?

Layout: ``DIR/points.json`` and one photograph an entry, ``DIR/ID.*``. The JSON document lists ``photographs``, each
with ``id``, ``points`` (``x`` and ``y`` as fractions of width and height of the picture as displayed, ``label``) and
one or more candidate sets (``candidates``, ``candidates_12``): the words the model chooses from on that photograph.
Chance is one over the size of the set.
"""

import glob
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from clippy_core.errors import DataError, UsageError
from clippy_core.evaluation.benchmarks import BenchmarkOptions, Report
from clippy_core.evaluation.metrics import wilson_interval
from clippy_core.prompts import parse_labels
from clippy_core.segmentation.segmenter import Segmenter

INDEX = "points.json"
SETS = ("candidates", "candidates_12")
LAYOUT = '{"photographs": [{"id": "A", "candidates": ["sky", "cow"], "points": [{"x": 0.5, "y": 0, "label": "sky"}]}]}'
"""The smallest index."""


class Outcome(NamedTuple):
    """One point: which photograph, which candidate set, the label a person gave it, and the model's."""

    photograph: str
    candidates: str
    label: str
    predicted: str | None


def run(segmenter: Segmenter, data: Path, options: BenchmarkOptions) -> Report:
    """Share of points with the right label, for each candidate set.

    Raises:
        DataError: The index or a photograph is missing or malformed.
    """
    rows: dict[str, dict[str, Any]] = {}
    for outcome in outcomes(segmenter, data, options):
        row = rows.setdefault(outcome.photograph, {"photograph": outcome.photograph})
        right, total = row.get(outcome.candidates, (0, 0))
        row[outcome.candidates] = (right + (outcome.predicted == outcome.label), total + 1)
    table = list(rows.values())
    return Report("points", dict(_metrics(table)), _protocol(segmenter, options, len(table)), table)


def outcomes(segmenter: Segmenter, data: Path, options: BenchmarkOptions) -> Iterator[Outcome]:
    """What the model says at every point, photograph by photograph; raises as :func:`run`."""
    for photograph in _read_index(data)[: options.limit]:
        path = _photograph(data, photograph["id"])
        for name in SETS:
            if name not in photograph:
                continue
            result = segmenter.segment(path, photograph[name], options.segment)
            for point in photograph["points"]:
                row = min(int(point["y"] * result.height), result.height - 1)
                column = min(int(point["x"] * result.width), result.width - 1)
                value = int(result.label_map[row, column])
                predicted = None if value == result.undecided else result.labels[value]
                yield Outcome(photograph["id"], name, point["label"], predicted)


def _metrics(rows: list[dict[str, Any]]) -> Iterator[tuple[str, float]]:
    for name in SETS:
        counts = [row[name] for row in rows if name in row]
        right, total = (sum(column) for column in zip(*counts, strict=True)) if counts else (0, 0)
        if total:
            low, high = wilson_interval(right, total)
            yield f"{name}: points right", right / total
            yield f"{name}: 95 % interval, low", low
            yield f"{name}: 95 % interval, high", high
            yield f"{name}: points", float(total)


def _protocol(segmenter: Segmenter, options: BenchmarkOptions, photographs: int) -> dict[str, Any]:
    choices = asdict(options.segment)
    choices["size"] = options.segment.size or segmenter.config.vision.size
    choices["templates"] = options.segment.templates or segmenter.config.templates
    return {
        "model": segmenter.config.name,
        "photographs": photographs,
        "precision": str(segmenter.placement.dtype).removeprefix("torch."),
        **choices,
    }


def _read_index(data: Path) -> list[dict[str, Any]]:
    path = data / INDEX
    try:
        photographs = json.loads(path.read_text(encoding="utf-8"))["photographs"]
        for photograph in photographs:
            _check(photograph)
        if not photographs:
            raise ValueError("no photograph is listed")
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}); expected: {INDEX} and one picture an entry"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        wrong = f"{error} is missing" if isinstance(error, KeyError) else "a value is of another type than expected"
        about = str(error) if isinstance(error, ValueError) else f"{wrong}; accepted: {LAYOUT}"
        raise DataError(f"{path}: not an index of points ({about})") from error
    return photographs


def _check(photograph: dict[str, Any]) -> None:
    for name in (name for name in SETS if name in photograph):
        try:
            parse_labels(photograph[name])
        except UsageError as error:
            raise ValueError(f"photograph {photograph['id']!r}, {name}: {error}") from error
    if Path(photograph["id"]).name != photograph["id"] or not photograph["points"]:
        raise ValueError(f"photograph {photograph['id']!r}: a file name and at least one point are expected")
    for point in photograph["points"]:
        if not (0 <= point["x"] <= 1 and 0 <= point["y"] <= 1):
            raise ValueError(f"photograph {photograph['id']!r}: a point lies outside the picture")
        for name in SETS:
            if name in photograph and point["label"] not in photograph[name]:
                raise ValueError(f"photograph {photograph['id']!r}: {point['label']!r} is not among its {name}")


def _photograph(data: Path, name: str) -> Path:
    matches = sorted(path for path in data.glob(f"{glob.escape(name)}.*") if path.name != INDEX)
    if not matches:
        raise DataError(f"{data}: no picture named {name}.*; the index lists it")
    return matches[0]
