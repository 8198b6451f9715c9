"""Benchmarks, one file a data set.

A benchmark is a function ``run(segmenter, data, options) -> Report``; one that needs no folder of data, or has pictures
to show while a model is trained, says so by :func:`traits`. Other packages register theirs under the entry-point group
``clippy.benchmarks``.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from clippy_core.errors import DataError, UsageError
from clippy_core.evaluation.options import BenchmarkOptions
from clippy_core.registry import Registry

if TYPE_CHECKING:
    import numpy as np

    from clippy_core.segmentation.segmenter import Segmenter


@dataclass(frozen=True)
class Report:
    """What was measured.

    Attributes:
        benchmark: The benchmark's name.
        metrics: Figures by name; fractions lie in 0…1.
        protocol: Every choice that could change a figure.
        rows: Details, one mapping a row of the printed table.
        images: What was found on each picture, one mapping a row of the CSV.
        confusion: Pixels by true class and, in columns, predicted class, the last column for none; empty where no
            pixel was compared.
        timing: How long it took: ``seconds``, ``images/s``, ``pictures`` (those measured now, not by an earlier run).
    """

    benchmark: str
    metrics: dict[str, float]
    protocol: dict[str, Any]
    rows: list[dict[str, Any]] = field(default_factory=list)
    images: list[dict[str, Any]] = field(default_factory=list)
    confusion: list[list[int]] = field(default_factory=list)
    timing: dict[str, float] = field(default_factory=dict)


Benchmark = Callable[["Segmenter", Path, BenchmarkOptions], Report]
Snapshots = Callable[["Segmenter"], "tuple[np.ndarray, ...]"]
"""Label maps of fixed pictures as RGB arrays (``uint8``, H×W×3)."""

_Run = TypeVar("_Run", bound=Callable[..., Report])


def traits(*, needs_data: bool = True, snapshots: Snapshots | None = None) -> Callable[[_Run], _Run]:
    """Say of a benchmark's function whether it needs a folder, and what it can show of a model in training."""

    def mark(run: _Run) -> _Run:
        vars(run).update(needs_data=needs_data, snapshots=snapshots)
        return run

    return mark


def needs_data(run: Benchmark) -> bool:
    """Whether the benchmark needs a folder."""
    return getattr(run, "needs_data", True)


def snapshots_of(run: Benchmark) -> Snapshots | None:
    """What the benchmark can show of a model in training, if anything."""
    return getattr(run, "snapshots", None)


def check_data(name: str, run: Benchmark, data: Path | None, *, option: str = "--data") -> Path | None:
    """The folder, if the benchmark is to have one and it is there.

    Args:
        name: The benchmark's name, for messages.
        run: The benchmark.
        data: What the user gave.
        option: How the user gives a folder, for messages.

    Raises:
        UsageError: A folder is missing, or one was given where none is needed.
        DataError: There is no such folder.
    """
    if data is None and needs_data(run):
        given = f"{option} {name}=DIR" if option == "--eval" else f"{option} DIR"
        raise UsageError(f"benchmark {name!r} needs the folder of its data set; give it by {given}")
    if data is not None and not needs_data(run):
        raise UsageError(f"{option} {data}: benchmark {name!r} makes its own pictures and takes no folder")
    if data is not None and not data.is_dir():
        raise DataError(f"{option} {data}: no such folder")
    return data


_HERE = "clippy_core.evaluation.benchmarks"
BENCHMARKS = Registry(
    "clippy.benchmarks",
    "benchmark",
    {
        "points": (f"{_HERE}.points:run", "hand-labelled points on photographs"),
        "shapes": (f"{_HERE}.shapes:run", "the built-in procedural world; needs no data"),
        "voc": (f"{_HERE}.voc:run", "PASCAL VOC 2012, 21 or 20 classes, a class and objects for every pixel"),
        "context": (f"{_HERE}.context:run", "PASCAL Context, 60 or 59 classes, a class for every pixel"),
        "coco-stuff": (f"{_HERE}.coco_stuff:run", "COCO-Stuff, 171 classes, a class for every pixel"),
        "coco-object": (f"{_HERE}.coco_object:run", "COCO's 80 things and background, a class for every pixel"),
        "coco-panoptic": (f"{_HERE}.coco_panoptic:run", "COCO panoptic, 133 classes, a class for every pixel"),
        "ade20k": (f"{_HERE}.ade20k:run", "ADE20K, 150 classes, a class for every pixel"),
        "cityscapes": (f"{_HERE}.cityscapes:run", "Cityscapes, 19 or 27 classes, a class for every pixel"),
        "folder": (f"{_HERE}.folder:run", "any pictures with masks and a list of labels"),
        "imagenet": (f"{_HERE}.imagenet:run", "ImageNet, 1,000 classes, one a picture"),
        "imagenet-v2": (f"{_HERE}.imagenet_v2:run", "ImageNetV2, 1,000 classes, one a picture"),
        "waterbirds": (f"{_HERE}.waterbirds:run", "Waterbirds: birds on backgrounds that do not suit them"),
        "image-folder": (f"{_HERE}.image_folder:run", "any folder with one folder of pictures a class"),
    },
)
