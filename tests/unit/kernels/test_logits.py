"""Patch logits."""

import numpy as np
import pytest
import torch

from clippy_core.errors import DataError
from clippy_core.kernels import patch_logits


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
