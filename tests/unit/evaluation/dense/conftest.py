"""Something to measure that is no model, and a way to measure it."""

import zlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from clippy_core.evaluation.dense.dataset import DenseDataset
from clippy_core.evaluation.dense.evaluate import fit, measure
from clippy_core.evaluation.dense.geometry import Sample
from clippy_core.evaluation.dense.predict import Prediction
from clippy_core.evaluation.options import BenchmarkOptions
from clippy_core.evaluation.protocols import resolve

SIDE = 32
Say = Callable[[Sample], np.ndarray]


class Fake:
    """Says what it is told to; ``seen`` has the names of the pictures it was asked about."""

    def __init__(self, labels: Say, segments: Say | None = None, certainty: Say | None = None) -> None:
        self.identity = "fake"
        self.labels, self.segments, self.certainty = labels, segments, certainty
        self.seen: list[str] = []

    def describe(self) -> dict[str, Any]:
        return {"model": "fake"}

    def __call__(self, sample: Sample, *, labels: bool, certainty: str | None, segments: bool) -> Prediction:
        self.seen.append(sample.example.name)
        return Prediction(
            self.labels(sample) if labels else None,
            self.certainty(sample) if certainty and self.certainty else None,
            self.segments(sample) if segments and self.segments else None,
        )


def noise(most: int, kind: str = "labels") -> Say:
    """Numbers from 0 to ``most`` at random, the same for a picture every time."""

    def say(sample: Sample) -> np.ndarray:
        seed = zlib.crc32(f"{kind} {sample.example.name}".encode())
        return np.random.default_rng(seed).integers(0, most + 1, sample.size)

    return say


def run(dataset: DenseDataset, predictor: Fake, **wanted: Any) -> Any:
    """What ``evaluate`` does with a model."""
    options = BenchmarkOptions(**wanted)
    protocol = fit(resolve(options), dataset, options)
    return measure(dataset, predictor, protocol, options, side=protocol.side(dataset.name) or SIDE)


@pytest.fixture(scope="session")
def fakes() -> SimpleNamespace:
    """The class, what it may say, and the way to measure it."""
    return SimpleNamespace(Fake=Fake, noise=noise, run=run, SIDE=SIDE)
