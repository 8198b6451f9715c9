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
from clippy_core.evaluation.share import Share
from clippy_core.registry import Registry
from clippy_core.segmentation.options import SegmentOptions

if TYPE_CHECKING:
    import numpy as np

    from clippy_core.segmentation.segmenter import Segmenter


@dataclass(frozen=True)
class BenchmarkOptions:
    """How to measure.

    Attributes:
        segment: Options for each picture.
        limit: Use only this many pictures, 1 or more; None for all.
        share: Which part of the pictures this process looks at. A benchmark that does not share leaves all the work
            to every process.
    """

    segment: SegmentOptions = field(default_factory=SegmentOptions)
    limit: int | None = None
    share: Share = field(default_factory=Share)

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise UsageError(f"--limit is {self.limit}; accepted: 1 or more")


@dataclass(frozen=True)
class Report:
    """What was measured.

    Attributes:
        benchmark: The benchmark's name.
        metrics: Figures by name; fractions lie in 0…1.
        protocol: Every choice that could change a figure.
        rows: Details, one mapping a row of the printed table.
    """

    benchmark: str
    metrics: dict[str, float]
    protocol: dict[str, Any]
    rows: list[dict[str, Any]] = field(default_factory=list)


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
        raise UsageError(f"benchmark {name!r} needs the folder of its data set; give it by {option} DIR")
    if data is not None and not needs_data(run):
        raise UsageError(f"{option} {data}: benchmark {name!r} makes its own pictures and takes no folder")
    if data is not None and not data.is_dir():
        raise DataError(f"{option} {data}: no such folder")
    return data


BENCHMARKS = Registry(
    "clippy.benchmarks",
    "benchmark",
    {
        "points": ("clippy_core.evaluation.benchmarks.points:run", "hand-labelled points on photographs"),
        "shapes": ("clippy_core.evaluation.benchmarks.shapes:run", "the built-in procedural world; needs no data"),
    },
)
