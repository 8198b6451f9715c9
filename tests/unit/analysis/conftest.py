"""Small models with random weights, and pictures, for analyses."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from clippy_core.model.device import place
from clippy_core.model.weights import load_directory
from clippy_core.segmentation.segmenter import Segmenter


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Several threads for matrices this small only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def vit(tiny_directory):
    """A vision transformer of two blocks with a CLS token, and a text tower that knows the shapes' words."""
    return Segmenter(load_directory(tiny_directory), place("cpu", "fp32"))


@pytest.fixture
def picture_file(tmp_path):
    """``picture_file("a/b.png", seed)`` → a small picture of its own under the test's folder."""

    def make(name, seed=0, size=(48, 64)):
        path = Path(tmp_path, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        blocks = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), np.uint8)
        Image.fromarray(blocks).resize(size[::-1], Image.Resampling.NEAREST).save(path)
        return path

    return make
