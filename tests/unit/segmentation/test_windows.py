"""Looking through windows: every cell is covered, and averages are what averaging by hand gives."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clippy_core.errors import UsageError
from clippy_core.kernels import patch_logits
from clippy_core.segmentation.options import SegmentOptions, Windows
from clippy_core.segmentation.windows import WINDOW_BATCH, window_features, window_starts

CELL = 4


@pytest.mark.parametrize(
    ("length", "window", "stride", "starts"),
    [
        pytest.param(10, 10, 5, [0], id="window as long as the side"),
        pytest.param(10, 99, 5, [0], id="window longer than the side"),
        pytest.param(20, 10, 10, [0, 10], id="side by side"),
        pytest.param(20, 10, 5, [0, 5, 10], id="overlapping"),
        pytest.param(23, 10, 10, [0, 10, 13], id="the last one flush with the end"),
        pytest.param(11, 10, 10, [0, 1], id="one pixel more"),
        pytest.param(12, 10, 1, [0, 1, 2], id="every pixel"),
    ],
)
def test_where_windows_begin(length, window, stride, starts):
    assert window_starts(length, window, stride) == starts


@given(st.integers(1, 200), st.integers(1, 60), st.integers(1, 60))
def test_every_pixel_is_covered_by_windows_inside_the_picture(length, window, stride):
    stride = min(stride, window)
    starts = window_starts(length, window, stride)
    covered = np.zeros(length, int)
    for start in starts:
        assert start >= 0
        assert start + window <= max(length, window)
        covered[start : start + window] += 1
    assert covered.min() >= 1
    assert starts == sorted(set(starts))


def encode(crops_B3HW):
    """A nonlinear encoder whose features depend on the whole crop, as a transformer's do."""
    cells_B3hw = torch.nn.functional.avg_pool2d(crops_B3HW, CELL)
    mixed_B3hw = torch.tanh(cells_B3hw + cells_B3hw.mean(dim=(2, 3), keepdim=True) * 2 + cells_B3hw.roll(1, 3))
    return torch.nn.functional.normalize(mixed_B3hw.flatten(2).transpose(1, 2), dim=-1)


def begins(start, side, windows):
    """Whether a window begins here: at every stride while it fits, and flush with the end."""
    inside = start + windows.window <= side
    return (inside and start % windows.stride == 0) or start == max(0, side - windows.window)


def brute_force(pixels_3HW, windows, labels_KD):
    """Average logit grids window by window, cell by cell, with nothing clever."""
    _, height, width = pixels_3HW.shape
    rows, columns = height // CELL, width // CELL
    total, count = np.zeros((rows, columns, len(labels_KD))), np.zeros((rows, columns, 1))
    for top in range(0, height, CELL):
        for left in range(0, width, CELL):
            if not (begins(top, height, windows) and begins(left, width, windows)):
                continue
            crop = pixels_3HW[:, top : top + windows.window, left : left + windows.window]
            features = encode(crop[None])[0].numpy()
            h, w = crop.shape[1] // CELL, crop.shape[2] // CELL
            for row in range(h):
                for column in range(w):
                    total[top // CELL + row, left // CELL + column] += labels_KD @ features[row * w + column]
                    count[top // CELL + row, left // CELL + column] += 1
    assert count.min() >= 1
    return total / count


@pytest.mark.parametrize(
    ("height", "width", "window", "stride"),
    [
        (16, 16, 8, 4),
        (16, 16, 8, 8),
        (20, 32, 8, 4),
        (12, 40, 16, 8),  # higher than the picture
        (28, 36, 16, 12),  # the last windows are flush with the end
        (32, 32, 12, 4),
        (8, 8, 4, 4),
    ],
)
def test_averaged_features_give_the_average_of_the_windows_logits(height, width, window, stride):
    generator = torch.Generator().manual_seed(height * width)
    pixels_3HW = torch.randn(3, height, width, generator=generator)
    labels_KD = torch.nn.functional.normalize(torch.randn(5, 3, generator=generator), dim=-1)
    windows = Windows(window, stride)
    features_PD, grid = window_features(pixels_3HW, windows, CELL, encode)
    assert grid == (height // CELL, width // CELL)
    got_hwK = patch_logits(features_PD, labels_KD, grid)
    np.testing.assert_allclose(got_hwK, brute_force(pixels_3HW, windows, labels_KD.numpy()), atol=1e-6)


def test_crops_come_in_batches_of_bounded_size():
    sizes = []

    def counting(crops_B3HW):
        sizes.append(len(crops_B3HW))
        return encode(crops_B3HW)

    window_features(torch.randn(3, 40, 40), Windows(8, 4), CELL, counting)
    assert sum(sizes) == 81
    assert max(sizes) == WINDOW_BATCH


@pytest.mark.parametrize(("window", "stride"), [(16, 16), (20, 4), (400, 100)])
def test_a_window_as_large_as_the_picture_is_no_window(window, stride):
    pixels_3HW = torch.randn(3, 12, 16)
    features_PD, _ = window_features(pixels_3HW, Windows(window, stride), CELL, encode)
    torch.testing.assert_close(features_PD, encode(pixels_3HW[None])[0], rtol=0, atol=0)


def test_a_window_as_large_as_the_picture_changes_no_label_map(segmenter):
    picture = np.random.default_rng(0).integers(0, 256, (90, 130, 3), np.uint8)
    plain = segmenter.segment(picture, "dog,grass,sky")
    windowed = segmenter.segment(picture, "dog,grass,sky", windows=Windows(4096, 64))
    np.testing.assert_array_equal(plain.label_map, windowed.label_map)
    np.testing.assert_array_equal(plain.scores, windowed.scores)


def test_windows_look_at_the_model_s_own_crops(segmenter):
    picture = np.random.default_rng(1).integers(0, 256, (64, 128, 3), np.uint8)
    features_PD, grid = segmenter.encode(picture, SegmentOptions(windows=Windows(64, 64)))
    assert grid == (4, 8)
    halves = [segmenter.encode(np.ascontiguousarray(half))[0] for half in (picture[:, :64], picture[:, 64:])]
    want = torch.cat([half.view(4, 4, -1) for half in halves], dim=1).flatten(0, 1)
    torch.testing.assert_close(features_PD, want, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("window", "stride", "aligned"),
    [(64, 32, (64, 32)), (60, 30, (64, 32)), (70, 41, (64, 48)), (5, 3, (16, 16)), (24, 24, (32, 32))],
)
def test_windows_are_rounded_to_the_grid(window, stride, aligned):
    assert Windows(window, stride).aligned(16) == Windows(*aligned)


@given(st.integers(1, 5000), st.integers(1, 5000), st.sampled_from([8, 14, 16, 32]))
def test_rounding_never_makes_a_stride_longer_than_its_window(window, stride, cell):
    aligned = Windows(window, min(stride, window)).aligned(cell)
    assert 0 < aligned.stride <= aligned.window
    assert aligned.stride % cell == aligned.window % cell == 0


@pytest.mark.parametrize(("window", "stride"), [(64, 0), (64, -8), (64, 65), (0, 0)])
def test_a_stride_that_leaves_gaps_or_never_ends_is_refused(window, stride):
    with pytest.raises(UsageError, match=rf"--stride is {stride}; accepted: 1 to the window's {window} pixels"):
        Windows(window, stride)
