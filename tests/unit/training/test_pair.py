"""Captions that speak of a part of their picture."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from clippy_core.errors import DataError
from clippy_core.model.vision import ImageFeatures
from clippy_core.training.config import LossConfig, StartConfig
from clippy_core.training.pair import TrainedPair, pool_boxes
from clippy_core.training.start import start_model


def features_of(rows, columns, channels=2, batch=1):
    patches = torch.arange(batch * rows * columns * channels, dtype=torch.float32).view(batch, rows * columns, channels)
    return ImageFeatures(patches, torch.zeros(batch, 0, channels), (rows, columns))


@pytest.mark.parametrize(
    ("box", "locations"),
    [
        ((0, 0, 1, 1), range(12)),
        ((0, 0, 0.5, 1), [0, 1, 4, 5, 8, 9]),
        ((0, 0, 1, 0.34), [0, 1, 2, 3]),
        ((0.5, 0.34, 1, 0.66), [6, 7]),
        # Too small to hold the middle of a cell: the one nearest to the box's middle.
        ((0.26, 0.4, 0.30, 0.45), [5]),
        ((0.0, 0.0, 0.01, 0.01), [0]),
        ((0.99, 0.99, 1.0, 1.0), [11]),
    ],
)
def test_a_box_is_the_mean_of_the_locations_in_it(box, locations):
    features = features_of(3, 4)
    expected = features.patches_BPD[0, list(locations)].mean(0)
    torch.testing.assert_close(pool_boxes(features, torch.tensor([box], dtype=torch.float32))[0], expected)


def test_each_picture_of_a_batch_has_its_own_box():
    features = features_of(2, 2, batch=2)
    found = pool_boxes(features, torch.tensor([[0.0, 0, 0.5, 0.5], [0.5, 0.5, 1, 1]]))
    torch.testing.assert_close(found, torch.stack([features.patches_BPD[0, 0], features.patches_BPD[1, 3]]))


def test_dropped_patches_and_boxes_exclude_each_other():
    features = features_of(3, 4)._replace(grid=(6, 4))
    with pytest.raises(DataError, match="patch_dropout"):
        pool_boxes(features, torch.tensor([[0.0, 0, 1, 0.5]]))


def test_whole_pictures_are_pooled_as_the_model_says_and_parts_by_their_mean():
    start, loss = StartConfig("clippy-micro"), LossConfig()
    loaded = start_model(start, loss, 0)
    pair = TrainedPair(loaded.model, start, loss).eval()
    side = loaded.model.config.vision.size
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, side, side), np.uint8))
    ids, mask = (torch.from_numpy(array) for array in loaded.tokenizer(["a circle", "grass"]))
    plain = pair(pixels, ids, mask)
    boxed = pair(pixels, ids, mask, torch.tensor([[0.0, 0, 1, 1], [0.0, 0, 0.5, 1]]))
    torch.testing.assert_close(boxed.image_BD[0], plain.image_BD[0])
    normalised = pixels.float() * pair.factor_311 - pair.offset_311
    features = loaded.model.vision(normalised)
    rows, columns = features.grid
    left = features.patches_BPD[1].view(rows, columns, -1)[:, : columns // 2].flatten(0, 1).mean(0)
    torch.testing.assert_close(boxed.image_BD[1], F.normalize(left, dim=0))
    torch.testing.assert_close(boxed.text_BD, plain.text_BD)
    assert torch.equal(boxed.scale, plain.scale)
