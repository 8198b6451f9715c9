"""Patch logits and the average of windows."""

import numpy as np
import pytest
import torch

from clippy_core.errors import DataError
from clippy_core.kernels import average_windows, patch_logits


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_patch_logits_numpy(dtype):
    rng = np.random.default_rng(0)
    features_PD, labels_KD = rng.standard_normal((6, 4)).astype(dtype), rng.standard_normal((5, 4)).astype(dtype)
    logits_hwK = patch_logits(features_PD, labels_KD, (2, 3))
    assert logits_hwK.dtype == np.float32
    assert logits_hwK.flags.c_contiguous
    want = np.einsum("pd,kd->pk", features_PD.astype(np.float64), labels_KD.astype(np.float64)).reshape(2, 3, 5)
    np.testing.assert_allclose(logits_hwK, want, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_patch_logits_stay_float32_under_autocast(dtype):
    torch.manual_seed(0)
    features_PD, labels_KD = torch.randn(6, 64).to(dtype), torch.randn(5, 64).to(dtype)
    with torch.autocast("cpu", torch.bfloat16):
        logits_hwK = patch_logits(features_PD, labels_KD, (2, 3))
    assert logits_hwK.dtype == torch.float32
    assert logits_hwK.is_contiguous()
    want = (features_PD.double() @ labels_KD.double().T).reshape(2, 3, 5)
    torch.testing.assert_close(logits_hwK, want.float(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("features", "labels", "grid", "message"),
    [
        ((6, 4), (5, 3), (2, 3), r"one D, not \(6, 4\) and \(5, 3\)"),
        ((6, 4, 1), (5, 4), (2, 3), "P x D and K x D"),
        ((6, 4), (5, 4), (2, 2), "2 x 2 patches needs 4 feature rows, not 6"),
    ],
)
def test_patch_logits_refuse(features, labels, grid, message):
    with pytest.raises(DataError, match=message):
        patch_logits(np.zeros(features, np.float32), np.zeros(labels, np.float32), grid)


@pytest.mark.parametrize("wrap", [np.asarray, torch.from_numpy], ids=["numpy", "torch"])
def test_average_windows(wrap):
    ones, threes = np.full((2, 2, 3), 1, np.float32), np.full((2, 2, 3), 3, np.float32)
    average_hwK = average_windows([wrap(ones), wrap(threes)], [(0, 0), (0, 1)], (2, 3))
    assert isinstance(average_hwK, type(wrap(ones)))
    np.testing.assert_array_equal(np.asarray(average_hwK)[..., 0], [[1, 2, 3], [1, 2, 3]])


def test_average_of_windows_cut_from_one_grid_is_that_grid():
    whole_hwK = np.random.default_rng(0).standard_normal((7, 9, 4)).astype(np.float32)
    corners = [(y, x) for y in (0, 2, 3) for x in (0, 3, 5)]
    windows = [whole_hwK[y : y + 4, x : x + 4] for y, x in corners]
    np.testing.assert_allclose(average_windows(windows, corners, (7, 9)), whole_hwK, atol=1e-6)


@pytest.mark.parametrize(
    ("shapes", "corners", "message"),
    [
        ([], [], "averaging needs windows"),
        ([(2, 2, 3)], [(0, 0), (1, 1)], "a corner for each: 1 and 2"),
        ([(2, 2, 3)], [(2, 0)], "2 x 2 x 3 at row 2, column 0 does not fit a grid of 3 x 3"),
        ([(2, 2, 3)], [(0, -1)], "does not fit"),
        ([(3, 3, 3), (3, 3, 4)], [(0, 0), (0, 0)], "3 x 3 x 4 .* 3 labels"),
        ([(2, 2, 3)], [(0, 0)], "5 of 9 patches are covered by no window"),
    ],
)
def test_average_windows_refuse(shapes, corners, message):
    with pytest.raises(DataError, match=message):
        average_windows([np.zeros(shape, np.float32) for shape in shapes], corners, (3, 3))
