"""Benchmarks, one file a data set.

A benchmark is a function ``run(segmenter, data, options) -> Report``. Other packages register theirs under the
entry-point group ``clippy.benchmarks``.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clippy_core.errors import UsageError
from clippy_core.registry import Registry
from clippy_core.segmentation.options import SegmentOptions

if TYPE_CHECKING:
    from clippy_core.segmentation.segmenter import Segmenter


@dataclass(frozen=True)
class BenchmarkOptions:
    """How to measure.

    Attributes:
        segment: Options for each picture.
        limit: Use only this many pictures, 1 or more; None for all.
    """

    segment: SegmentOptions = field(default_factory=SegmentOptions)
    limit: int | None = None

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

BENCHMARKS = Registry(
    "clippy.benchmarks",
    "benchmark",
    {"points": ("clippy_core.evaluation.benchmarks.points:run", "hand-labelled points on photographs")},
)
