"""Cropped pictures and what their masks become, against positions worked out by hand."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from clippy_core.evaluation.dense.dataset import DenseDataset, Example
from clippy_core.evaluation.dense.geometry import Reader, crop_mask, crop_picture, squash_mask
from clippy_core.evaluation.protocols import preset


def ramp(height, width):
    """Every pixel has a number of its own."""
    return np.arange(height * width, dtype=np.int32).reshape(height, width)


@pytest.mark.parametrize("size", [(40, 60), (60, 40), (41, 67), (97, 33), (32, 32), (17, 23)])
def test_a_cropped_mask_is_the_nearest_pixel_of_the_middle(size):
    side = 32
    short = min(size)
    height, width = (side if length == short else int(side * length / short) for length in size)
    top, left = round((height - side) / 2), round((width - side) / 2)
    rows = ((np.arange(side) + top + 0.5) * size[0] / height).astype(int)
    columns = ((np.arange(side) + left + 0.5) * size[1] / width).astype(int)
    assert np.array_equal(crop_mask(ramp(*size), side), ramp(*size)[np.ix_(rows, columns)])


def test_a_cropped_mask_lines_up_with_its_picture():
    mask_HW = np.zeros((96, 64), np.uint8)
    mask_HW[40:60, 10:30] = 1
    picture = crop_picture(mask_HW[..., None].repeat(3, 2) * 255, 32)[..., 0]
    cropped = crop_mask(mask_HW, 32)
    assert cropped.dtype == np.uint8
    assert picture.shape == cropped.shape == (32, 32)
    # Along edges the picture is in between.
    clear = (picture < 40) | (picture > 215)
    assert np.array_equal(picture[clear] > 127, cropped[clear] == 1)
    assert clear.mean() > 0.9
    assert (squash_mask(mask_HW, 32) != cropped).mean() > 0.02


def test_a_squashed_mask_is_the_whole():
    squashed = squash_mask(ramp(64, 96), 32)
    assert np.array_equal(squashed, ramp(64, 96)[np.ix_(np.arange(32) * 2 + 1, np.arange(32) * 3 + 1)])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
def test_numbers_stay_what_they_are(dtype):
    values_HW = np.array([[0, 255], [254, 3]], dtype)
    if dtype == np.int32:
        values_HW[0, 1] = -1
    for fit in (crop_mask, squash_mask):
        found = fit(values_HW, 64)
        assert found.dtype == dtype
        assert np.array_equal(np.unique(found), np.unique(values_HW))


@pytest.mark.parametrize(("name", "mask"), [("paper", "own"), ("kahnchana", "squash"), ("kahnchana-aligned", "crop")])
def test_a_sample_has_what_its_protocol_says(tmp_path, name, mask):
    pixels_HW3 = np.random.default_rng(0).integers(0, 256, (50, 70, 3)).astype(np.uint8)
    Image.fromarray(pixels_HW3).save(tmp_path / "a.png")
    mask_HW, objects_HW = ramp(50, 70).astype(np.uint8), ramp(50, 70)
    dataset = DenseDataset(
        *("d2", "val", ("a", "b"), (Example("a", tmp_path / "a.png"),)), lambda example: mask_HW, lambda e: objects_HW
    )
    protocol = replace(preset(name), size=48)
    sample = Reader(dataset, dataset.examples, protocol, 48, masks=True, objects=True)(0)
    fit = {"own": lambda values: values, "crop": lambda v: crop_mask(v, 48), "squash": lambda v: squash_mask(v, 48)}
    assert sample.size == ((50, 70) if mask == "own" else (48, 48))
    assert sample.truth_HW is not None
    assert sample.objects_HW is not None
    assert np.array_equal(sample.truth_HW, fit[mask](mask_HW))
    assert np.array_equal(sample.objects_HW, fit[mask](objects_HW))
    assert np.array_equal(sample.pixels_HW3, pixels_HW3 if mask == "own" else crop_picture(pixels_HW3, 48))
    bare = Reader(dataset, dataset.examples, protocol, 48, masks=False, objects=False)(0)
    assert (bare.truth_HW, bare.objects_HW) == (None, None)
