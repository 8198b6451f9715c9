"""Scenes as a source of training samples."""

import pickle

import numpy as np
import pytest

from clippy_core.shapes import scene
from clippy_core.training.data.shapes import ShapesSource


@pytest.fixture
def source():
    return ShapesSource(50, 64, seed=0)


def test_an_epoch_holds_every_number_once_and_no_epoch_holds_another_s(source):
    epochs = [source.order(epoch, seed=3) for epoch in range(4)]
    assert all(numbers.dtype == np.int64 for numbers in epochs)
    for epoch, numbers in enumerate(epochs):
        assert sorted(numbers.tolist()) == list(range(50 * epoch, 50 * (epoch + 1)))


def test_the_order_is_decided_by_epoch_and_seed(source):
    first = source.order(1, seed=3)
    assert np.array_equal(first, ShapesSource(50, 64, seed=0).order(1, seed=3))
    assert not np.array_equal(first, source.order(1, seed=4))
    assert not np.array_equal(first - 50, source.order(0, seed=3))


def test_a_sample_is_the_scene_of_its_number(source):
    number = source.order(2, seed=0)[0]
    sample, want = source.read(number), scene(int(number), seed=0)
    assert sample.key == f"shapes/0/{number}"
    assert sample.caption == want.caption
    assert np.array_equal(sample.image, want.pixels_HW3)


def test_a_copy_in_another_process_reads_the_same(source):
    copy = pickle.loads(pickle.dumps(source))
    assert np.array_equal(copy.read(5).image, source.read(5).image)
    assert np.array_equal(copy.order(0, 1), source.order(0, 1))


def test_size_and_seed_are_kept():
    sample = ShapesSource(10, 96, seed=5).read(3)
    assert sample.image.shape == (96, 96, 3)
    assert sample.caption == scene(3, seed=5).caption


def test_what_it_says_about_itself(source):
    assert len(source) == 50
    assert source.counts() == {"samples": 50}
    assert source.problems() == []
