"""From counts to a report, and the CSV of pictures.

Shapes: C class.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from clippy_core.evaluation.benchmarks import Report
from clippy_core.evaluation.dense.dataset import DenseDataset
from clippy_core.evaluation.dense.tally import FIGURES, Tally
from clippy_core.evaluation.options import BenchmarkOptions
from clippy_core.evaluation.protocols import Protocol
from clippy_core.files import write_bytes

IMAGES = "images.csv"


def summarise(
    dataset: DenseDataset,
    names: Sequence[str],
    tally: Tally,
    protocol: Protocol,
    options: BenchmarkOptions,
    about: dict[str, Any],
    timing: dict[str, float],
) -> Report:
    """The report on all counted pictures.

    Args:
        dataset: The data set.
        names: Names of the pictures in the order of the tally.
        tally: Counts of all processes together.
        protocol: How it was measured.
        options: What was asked for.
        about: What the predictor says of itself, and further choices.
        timing: How long it took.
    """
    confusion = tally.confusion
    metrics: dict[str, float] = {}
    rows: list[dict[str, Any]] = []
    if options.metric != "bottom-up":
        metrics |= {
            "mIoU": confusion.miou,
            "pixel accuracy": confusion.accuracy,
            "mean accuracy": confusion.mean_accuracy,
            "frequency-weighted IoU": confusion.weighted_iou,
        }
        iou_C, accuracy_C, pixels_C = confusion.iou, confusion.accuracies, confusion.counts.sum(1)
        rows = [
            {
                "class": name,
                "IoU": _shown(iou_C[index]),
                "accuracy": _shown(accuracy_C[index]),
                "pixels": int(pixels_C[index]),
            }
            for index, name in enumerate(dataset.classes)
        ]
    if options.metric != "top-down":
        metrics |= {"JS": tally.jaccard.mean, "objects": float(tally.jaccard.counts[1])}
    metrics["pictures"] = float(tally.done_N.sum())
    counts = confusion.counts.tolist() if rows else []
    protocol_used = describe(dataset, tally, protocol, options) | about
    return Report(dataset.name, metrics, protocol_used, rows, tally.rows(list(names)), counts, timing)


def describe(dataset: DenseDataset, tally: Tally, protocol: Protocol, options: BenchmarkOptions) -> dict[str, Any]:
    """Every choice that could change a figure, besides what the predictor says of itself."""
    found, compared = protocol.describe(), "at the mask's own resolution"
    if protocol.mask != "own":
        compared = f"on the square that the model is shown, masks {protocol.mask}"
    whole = options.limit is None or options.limit >= len(dataset.examples)
    return {
        "split": dataset.split,
        "classes": len(dataset.classes),
        "pictures": int(tally.done_N.sum()),
        "pictures of the split": len(dataset.examples),
        "choice of pictures": "all" if whole else "evenly spaced",
        "metric": options.metric,
        "protocol": found.pop("name"),
        **{name: value for name, value in found.items() if name != "split"},
        "compared": compared,
        "equal scores": "the class that comes first",
        "classes in the mean": "those that are in a mask or predicted",
        **({"grouping": asdict(options.grouping)} if options.metric != "top-down" else {}),
        "notes": list(dataset.notes),
    }


def write_images(out: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """Write ``out/images.csv``, one line a picture; a figure that it does not have is empty.

    Raises:
        OSError: The file cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("picture", *FIGURES))
    writer.writerows([_cell(row[column]) for column in ("picture", *FIGURES)] for row in rows)
    write_bytes(out / IMAGES, text.getvalue().encode("utf-8", "backslashreplace"))
    return out / IMAGES


def _cell(value: Any) -> Any:
    return f"{value:.6f}" if isinstance(value, float) else "" if value is None else value


def _shown(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.3f}"
