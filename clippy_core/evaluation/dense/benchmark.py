"""From a reader of a data set to a benchmark. Imports no torch until it runs."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from clippy_core.evaluation.dense.dataset import DenseDataset

if TYPE_CHECKING:
    from clippy_core.evaluation.benchmarks import Benchmark, BenchmarkOptions, Report
    from clippy_core.segmentation.segmenter import Segmenter

Read = Callable[..., DenseDataset]
"""``read(data, *, classes=None, split=None)``: the data set in a folder."""


def dense_benchmark(read: Read) -> "Benchmark":
    """A benchmark that labels and groups the pictures that ``read`` finds; see :func:`~.evaluate.evaluate`."""

    def run(segmenter: "Segmenter", data: Path, options: "BenchmarkOptions") -> "Report":
        """Measure on the data set in the folder ``data``."""
        from clippy_core.evaluation.dense.evaluate import evaluate

        return evaluate(segmenter, partial(read, data), options)

    return run
