"""The built-in procedural world as a source of samples: no download, no file, no end."""

import numpy as np

from clippy_core.shapes import scene
from clippy_core.training.data import Sample


class ShapesSource:
    """Scenes by number. Every epoch shows new ones: epoch ``e`` holds numbers ``e·samples`` to ``(e+1)·samples − 1``.

    Args:
        samples: How many scenes an epoch has.
        size: Side of the pictures in pixels, 32…512.
        seed: Which world; measure on another one.
    """

    def __init__(self, samples: int, size: int = 64, seed: int = 0) -> None:
        self.samples = samples
        self.size = size
        self.seed = seed

    def __len__(self) -> int:
        """Scenes in an epoch."""
        return self.samples

    def order(self, epoch: int, seed: int) -> np.ndarray:
        """Numbers of the epoch's scenes, ``int64``, shuffled by the seed; no scene comes twice, in any epoch."""
        rng = np.random.Generator(np.random.PCG64((seed, epoch)))
        return epoch * self.samples + rng.permutation(self.samples).astype(np.int64)

    def read(self, number: int) -> Sample:
        """The scene of that number: pixels and caption."""
        found = scene(int(number), seed=self.seed, size=self.size)
        return Sample(f"shapes/{self.seed}/{number}", found.pixels_HW3, found.caption)

    def counts(self) -> dict[str, int]:
        """How many scenes an epoch has."""
        return {"samples": self.samples}

    def problems(self) -> list[str]:
        """Nothing can be wrong with it."""
        return []
