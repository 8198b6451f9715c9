"""Measuring a model between the steps of its training, without leaving a trace in it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import distributed as dist

from clippy_core.errors import UsageError
from clippy_core.evaluation.benchmarks import BENCHMARKS, BenchmarkOptions, check_data, snapshots_of
from clippy_core.evaluation.share import Share
from clippy_core.model.device import Placement
from clippy_core.model.dual_encoder import DualEncoder
from clippy_core.model.tokenizer import Tokenizer
from clippy_core.model.weights import LoadedModel
from clippy_core.segmentation.segmenter import Segmenter

LIMIT = 200


class Validation:
    """Benchmarks to run on a model as it stands.

    Where training is by several processes, every one of them calls it, and each looks at its share of the pictures.

    Args:
        specs: Each ``BENCHMARK=DIR``, or ``BENCHMARK`` alone for one that needs no folder, such as ``shapes``.
        limit: Pictures of each benchmark; None for all.

    Raises:
        UsageError: An unknown benchmark, one named twice, or a folder that is missing or not wanted.
        DataError: There is no such folder.
    """

    def __init__(self, specs: Sequence[str], *, limit: int | None = LIMIT) -> None:
        self.limit = limit
        self.benchmarks = []
        for spec in specs:
            name, given, folder = spec.partition("=")
            run = BENCHMARKS.load(name)
            if any(name == other for other, _, _ in self.benchmarks):
                raise UsageError(f"--eval {spec}: benchmark {name!r} is given twice")
            data = check_data(name, run, Path(folder) if given else None, option="--eval")
            self.benchmarks.append((name, run, data))

    def __call__(
        self, model: DualEncoder, tokenizer: Tokenizer, placement: Placement
    ) -> tuple[dict[str, float], tuple[np.ndarray, ...]]:
        """Metrics by name, such as ``"shapes/mIoU"``, and label maps of fixed pictures (``uint8``, H×W×3).

        Weights, modes and random states are afterwards as they were. Raises as the benchmarks do.
        """
        metrics: dict[str, float] = {}
        pictures: list[np.ndarray] = []
        options = BenchmarkOptions(limit=self.limit, share=_share(placement.device))
        with undisturbed(model, placement.device):
            segmenter = Segmenter(LoadedModel(model.eval(), tokenizer), placement, prepare=False)
            for name, run, data in self.benchmarks:
                report = run(segmenter, data, options)
                metrics |= {f"{name}/{metric}": value for metric, value in report.metrics.items()}
                show = snapshots_of(run)
                if show is not None and options.share.rank == 0:
                    pictures += show(segmenter)
        return metrics, tuple(pictures)


@contextmanager
def undisturbed(model: torch.nn.Module, device: torch.device) -> Iterator[None]:
    """Put every module's mode and torch's random states back at the end."""
    modes = [(module, module.training) for module in model.modules()]
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        try:
            yield
        finally:
            for module, training in modes:
                module.training = training


def _share(device: torch.device) -> Share:
    if not (dist.is_available() and dist.is_initialized()):
        return Share()

    def add_up(array: np.ndarray) -> np.ndarray:
        total = torch.from_numpy(array).to(device)
        dist.all_reduce(total)
        return total.cpu().numpy()

    return Share(dist.get_rank(), dist.get_world_size(), add_up)
