"""The label map on a real GPU: Triton and torch against a float64 reference there, and the memory they take."""

import numpy as np
import pytest
import torch

from clippy_core.kernels import label_map, patch_logits, reference, softmax_label_map

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("implementation", ["triton", "torch"])
@pytest.mark.parametrize("kind", ["noise", "coarse"])
@pytest.mark.parametrize(
    ("grid", "size", "labels"),
    [
        ((1, 1), (7, 5), 1),
        ((1, 9), (40, 200), 3),
        ((14, 14), (224, 224), 21),
        ((14, 20), (301, 407), 150),
        ((28, 28), (512, 512), 847),
        ((6, 5), (97, 61), 5000),
        ((30, 30), (11, 17), 40),
    ],
)
def test_matches_float64(implementation, kind, grid, size, labels):
    rng = np.random.default_rng(0)
    values = rng.standard_normal((*grid, labels)) if kind == "noise" else rng.integers(-2, 3, (*grid, labels)) / 4
    logits_hwK = torch.tensor(values, dtype=torch.float32, device="cuda")
    for groups in (None, np.sort(rng.integers(0, max(1, labels // 2), labels))):
        want = reference.label_map(logits_hwK, size, groups=groups, scores=True, margins=True, dtype=torch.float64)
        got = label_map(logits_hwK, size, groups=groups, scores=True, margins=True, implementation=implementation)
        assert got.implementation == implementation
        assert got.labels_HW.device == logits_hwK.device
        assert not ((got.labels_HW != want.labels_HW) & (want.margins_HW >= 5e-6)).any()
        torch.testing.assert_close(got.scores_HW, want.scores_HW, atol=5e-6, rtol=0)
        torch.testing.assert_close(got.margins_HW, want.margins_HW, atol=1e-5, rtol=0)
        only = label_map(logits_hwK, size, groups=groups, implementation=implementation)
        assert torch.equal(only.labels_HW, got.labels_HW)


def test_folder_gets_triton_and_no_big_array():
    logits_hwK = patch_logits(torch.randn(784, 64, device="cuda"), torch.randn(847, 64, device="cuda"), (28, 28))
    label_map(logits_hwK, (1024, 1024), images_ahead=10)
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    found = label_map(logits_hwK, (1024, 1024), images_ahead=10)
    assert found.implementation == "triton"
    assert torch.cuda.max_memory_allocated() - before < 16 << 20


def test_refuses_nan():
    from clippy_core.errors import DataError

    logits_hwK = torch.zeros(2, 2, 3, device="cuda")
    logits_hwK[0, 0, 0] = torch.nan
    with pytest.raises(DataError, match="1 of 12 logits are NaN"):
        label_map(logits_hwK, (4, 4))


def test_softmax():
    logits_hwK = torch.randn(5, 6, 40)
    here = softmax_label_map(logits_hwK.cuda(), (60, 70), scale=20.0)
    there = softmax_label_map(logits_hwK, (60, 70), scale=20.0)
    torch.testing.assert_close(here.scores_HW.cpu(), there.scores_HW, atol=1e-5, rtol=1e-4)
