"""From a picture to a tower's input: the size it is brought to and the numbers it becomes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from clippy_core.model.config import VisionConfig
from clippy_core.model.preprocess import MOST_ELONGATED, to_input, working_size

sides = st.integers(1, 10_000)
strides = st.sampled_from([8, 14, 16, 32])


@given(size=st.tuples(sides, sides), short_side=st.integers(1, 2000), stride=strides)
def test_a_working_size_has_whole_cells_and_nearly_the_same_shape(size, short_side, stride):
    working = working_size(size, short_side, stride)
    scale = min(short_side / min(size), MOST_ELONGATED * short_side / max(size))
    for side, exact in zip(working, (length * scale for length in size), strict=True):
        assert isinstance(side, int)
        assert side >= stride
        assert side % stride == 0
        assert abs(side - max(exact, stride)) <= stride / 2 + 1e-6


@given(size=st.tuples(sides, sides), short_side=st.integers(1, 2000), stride=strides)
def test_a_picture_on_its_side_gets_the_working_size_on_its_side(size, short_side, stride):
    assert working_size(size[::-1], short_side, stride) == working_size(size, short_side, stride)[::-1]


@given(size=st.tuples(sides, sides), cells=st.integers(1, 60), stride=strides)
def test_a_working_size_is_bounded_and_stays_as_it_is(size, cells, stride):
    working = working_size(size, cells * stride, stride)
    assert max(working) <= MOST_ELONGATED * cells * stride
    assert working_size(working, cells * stride, stride) == working


@given(cells=st.integers(1, 50), stride=strides, factor=st.integers(1, 9))
def test_whole_cells_stay_as_they_are(cells, stride, factor):
    short = cells * stride
    assert working_size((short, factor * short), short, stride) == (short, factor * short)
    assert working_size((7, 7 * factor), short, stride) == (short, factor * short)


@pytest.mark.parametrize(
    ("size", "short_side", "stride", "expected"),
    [
        ((480, 640), 224, 16, (224, 304)),
        ((640, 480), 224, 16, (304, 224)),
        ((3000, 4000), 256, 16, (256, 336)),
        ((1, 1), 256, 16, (256, 256)),
        ((100, 100), 5, 16, (16, 16)),
        ((100, 1000), 21, 16, (16, 208)),
        ((300, 300), 220, 14, (224, 224)),
        ((100, 800), 256, 16, (256, 2048)),
        ((100, 1001), 256, 16, (256, 2560)),
        ((100, 2000), 256, 16, (128, 2560)),
        ((1, 100), 256, 16, (32, 2560)),
        ((100, 1), 32, 16, (320, 16)),
    ],
)
def test_working_sizes(size, short_side, stride, expected):
    assert working_size(size, short_side, stride) == expected


CONFIG = VisionConfig("x", mean=(0.5, 0.25, 0.125), std=(0.5, 0.2, 0.1))


@given(colour=st.tuples(*[st.integers(0, 255)] * 3), size=st.tuples(*[st.integers(1, 40)] * 2))
def test_one_colour_becomes_its_normalised_value_everywhere(colour, size):
    pixels_HW3 = np.broadcast_to(np.array(colour, np.uint8), (9, 17, 3))
    input_3HW = to_input(np.ascontiguousarray(pixels_HW3), size, CONFIG)
    expected = (np.array(colour) / 255 - np.array(CONFIG.mean)) / np.array(CONFIG.std)
    assert input_3HW.shape == (3, *size)
    assert input_3HW.dtype == np.float32
    assert input_3HW.flags.c_contiguous
    np.testing.assert_allclose(input_3HW, np.broadcast_to(expected[:, None, None], input_3HW.shape), atol=1e-5)


def test_a_picture_of_the_right_size_is_only_normalised():
    pixels_HW3 = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    expected_HW3 = (pixels_HW3 / 255 - np.array(CONFIG.mean)) / np.array(CONFIG.std)
    np.testing.assert_allclose(to_input(pixels_HW3, (32, 48), CONFIG), expected_HW3.transpose(2, 0, 1), atol=1e-5)


def test_a_colour_of_the_mean_is_zero_which_padding_is_too():
    config = VisionConfig("x", mean=(51 / 255, 102 / 255, 153 / 255))
    pixels_HW3 = np.broadcast_to(np.array([51, 102, 153], np.uint8), (4, 4, 3))
    np.testing.assert_allclose(to_input(np.ascontiguousarray(pixels_HW3), (4, 4), config), 0, atol=1e-6)


@pytest.mark.parametrize("size", [(64, 96), (16, 16), (128, 64), (300, 500)])
def test_resizing_is_bicubic_with_antialiasing(size):
    row, column = np.mgrid[:200, :300]
    pixels_HW3 = np.stack([row % 256, column % 256, (127 + 100 * np.sin(row / 9) * np.cos(column / 7))], -1)
    pixels_HW3 = pixels_HW3.astype(np.uint8)
    exact = Image.fromarray(pixels_HW3).resize(size[::-1], Image.Resampling.BICUBIC)
    plain = VisionConfig("x", mean=(0, 0, 0), std=(1, 1, 1))
    difference = np.abs(to_input(pixels_HW3, size, plain).transpose(1, 2, 0) * 255 - np.asarray(exact, np.float32))
    # Averaging blocks first (``reducing_gap``) may shift a value by a few of 255 levels where colours jump.
    assert difference.mean() < 1
    assert np.quantile(difference, 0.99) < 8
