"""The label map call: values small enough to check by hand, refusals, and the choice of implementation."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from clippy_core.errors import ConfigError, DataError, DeviceError
from clippy_core.kernels import IMPLEMENTATIONS, dispatch, label_map, softmax_label_map

CPU = ("numpy", "torch", "reference")


def row_of(*patches):
    """Logits of a 1 x n grid."""
    return np.array([patches], np.float32)


@pytest.mark.parametrize("implementation", CPU)
@pytest.mark.parametrize(
    ("logits_hwK", "size", "groups", "labels_HW"),
    [
        pytest.param(row_of([1, 0]), (2, 3), None, [[0, 0, 0], [0, 0, 0]], id="one patch"),
        pytest.param(row_of([7]), (1, 2), None, [[0, 0]], id="one label"),
        pytest.param(row_of([1, 0], [0, 1]), (1, 4), None, [[0, 0, 1, 1]], id="crossing between pixels"),
        pytest.param(row_of([1, 0], [0, 1]), (1, 1), None, [[0]], id="tie goes to the first"),
        pytest.param(row_of([0, 1], [1, 0]), (1, 1), None, [[0]], id="tie goes to the first, not to the left"),
        pytest.param(row_of([8, 0, 6], [0, 8, 6]), (1, 8), None, [[0, 0, 0, 2, 2, 1, 1, 1]], id="third label between"),
        pytest.param(row_of([8, 0, 6], [0, 8, 6]), (1, 8), [0, 0, 1], [[0, 0, 0, 1, 1, 0, 0, 0]], id="synonyms"),
        pytest.param(row_of([8, 0, 6], [0, 8, 6]), (1, 8), [3, 3, 9], [[3, 3, 3, 9, 9, 3, 3, 3]], id="named groups"),
        pytest.param(row_of([1, 0], [0, 1], [1, 0], [0, 1]), (1, 2), None, [[0, 0]], id="fewer pixels than patches"),
    ],
)
def test_labels(implementation, logits_hwK, size, groups, labels_HW):
    for array in (logits_hwK, logits_hwK.swapaxes(0, 1)):
        flipped = array is not logits_hwK
        found = label_map(array, size[::-1] if flipped else size, groups=groups, implementation=implementation)
        want = np.array(labels_HW).T if flipped else np.array(labels_HW)
        np.testing.assert_array_equal(found.labels_HW, want)


@pytest.mark.parametrize("implementation", CPU)
def test_scores_and_margins(implementation):
    logits_hwK = row_of([1, 0, 0.5], [0, 1, 0.5])
    found = label_map(logits_hwK, (1, 4), scores=True, margins=True, implementation=implementation)
    np.testing.assert_allclose(found.scores_HW, [[1, 0.75, 0.75, 1]], atol=1e-6)
    np.testing.assert_allclose(found.margins_HW, [[0.5, 0.25, 0.25, 0.5]], atol=1e-6)
    found = label_map(logits_hwK, (1, 4), groups=[0, 0, 1], margins=True, implementation=implementation)
    np.testing.assert_allclose(found.margins_HW, [[0.5, 0.25, 0.25, 0.5]], atol=1e-6)


@pytest.mark.parametrize("implementation", CPU)
@pytest.mark.parametrize("groups", [None, [4, 4]], ids=["one prompt", "one label"])
def test_margin_without_a_second_label(implementation, groups):
    logits_hwK = np.zeros((3, 3, 1 if groups is None else 2), np.float32)
    found = label_map(logits_hwK, (9, 9), groups=groups, margins=True, implementation=implementation)
    assert np.isposinf(found.margins_HW).all()
    assert (found.labels_HW == (0 if groups is None else 4)).all()


@pytest.mark.parametrize("implementation", CPU)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_numpy_in_numpy_out(implementation, dtype):
    logits_hwK = np.random.default_rng(0).standard_normal((4, 5, 6)).astype(dtype)
    found = label_map(logits_hwK, (20, 30), scores=True, margins=True, implementation=implementation)
    same = label_map(logits_hwK.astype(np.float32), (20, 30), implementation="reference")
    for array, kind in ((found.labels_HW, np.int32), (found.scores_HW, np.float32), (found.margins_HW, np.float32)):
        assert isinstance(array, np.ndarray)
        assert array.dtype == kind
    np.testing.assert_array_equal(found.labels_HW, same.labels_HW)


@pytest.mark.parametrize("implementation", CPU)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_torch_in_torch_out(implementation, dtype):
    torch.manual_seed(0)
    logits_hwK = torch.randn(4, 5, 6, requires_grad=True).to(dtype)
    found = label_map(logits_hwK, (20, 30), scores=True, implementation=implementation)
    same = label_map(logits_hwK.detach().float().numpy(), (20, 30), implementation="reference")
    assert isinstance(found.labels_HW, torch.Tensor)
    assert found.labels_HW.dtype == torch.int32
    assert found.scores_HW.dtype == torch.float32
    assert not found.scores_HW.requires_grad
    np.testing.assert_array_equal(found.labels_HW.numpy(), same.labels_HW)


def test_input_that_is_not_contiguous():
    logits_Khw = np.random.default_rng(0).standard_normal((6, 4, 5)).astype(np.float32)
    logits_hwK = logits_Khw.transpose(1, 2, 0)
    found = label_map(logits_hwK, (20, 30))
    np.testing.assert_array_equal(found.labels_HW, label_map(logits_hwK.copy(), (20, 30)).labels_HW)
    tensor = label_map(torch.from_numpy(logits_Khw).permute(1, 2, 0), (20, 30))
    np.testing.assert_array_equal(found.labels_HW, tensor.labels_HW)


@pytest.mark.parametrize("wrap", [np.array, torch.tensor], ids=["numpy", "torch"])
@pytest.mark.parametrize("entry", [label_map, lambda logits, size: softmax_label_map(logits, size, scale=1.0)])
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0.0, float("nan"), float("nan")], "2 of 12 logits are NaN or infinite"),
        ([float("inf"), 0.0, 1.0], "1 of 12 logits are NaN or infinite"),
        ([0.0, -float("inf"), 1.0], "1 of 12 logits are NaN or infinite"),
        ([1e30, 0.0, 1.0], "beyond 1e\\+18"),
    ],
)
def test_values_that_are_refused(wrap, entry, values, message):
    logits = [[[0.0] * 3, values], [[1.0] * 3, [2.0] * 3]]
    with pytest.raises(DataError, match=message):
        entry(wrap(logits), (4, 4))


@pytest.mark.parametrize(
    ("logits", "arguments", "error", "message"),
    [
        (np.zeros((2, 3)), {}, DataError, r"rows x columns x labels.*\(2, 3\)"),
        (np.zeros((2, 3, 0)), {}, DataError, r"none of them 0.*\(2, 3, 0\)"),
        (np.zeros((2, 2, 3), int), {}, DataError, "floating point, not int64"),
        (torch.zeros(2, 2, 3, dtype=torch.int32), {}, DataError, "floating point, not torch.int32"),
        (np.zeros((2, 2, 3)), {"size": (0, 4)}, ConfigError, r"size must be .* not \(0, 4\)"),
        (np.zeros((2, 2, 3)), {"size": (4, 4, 4)}, ConfigError, "size must be"),
        (np.zeros((2, 2, 3)), {"size": (4.5, 4)}, ConfigError, "size must be"),
        (np.zeros((2, 2, 3)), {"groups": [0, 1]}, ConfigError, "one label for each of 3 prompts"),
        (np.zeros((2, 2, 3)), {"groups": [0, 2, 1]}, ConfigError, "do not decrease"),
        (np.zeros((2, 2, 3)), {"groups": [-1, 0, 1]}, ConfigError, "from 0 on"),
        (np.zeros((2, 2, 3)), {"groups": [0.0, 1.0, 2.0]}, ConfigError, "whole numbers"),
        (np.zeros((2, 2, 3)), {"implementation": "fast"}, ConfigError, "one of auto, .* not 'fast'"),
    ],
)
def test_calls_that_are_refused(logits, arguments, error, message):
    with pytest.raises(error, match=message):
        label_map(logits, **{"size": (4, 4), **arguments})


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_softmax_refuses_scale(scale):
    with pytest.raises(ConfigError, match="scale must be a positive number"):
        softmax_label_map(np.zeros((2, 2, 3), np.float32), (4, 4), scale=scale)


def test_softmax_by_hand():
    found = softmax_label_map(row_of([1, 0, 0], [0, 1, 0]), (1, 2), scale=2.0)
    np.testing.assert_array_equal(found.labels_HW, [[0, 1]])
    np.testing.assert_allclose(found.scores_HW, np.exp(2) / (np.exp(2) + 2), rtol=1e-6)
    assert "every label" in found.reason
    grouped = softmax_label_map(torch.tensor([[[1.0, 0, 0], [0, 1, 0]]]), (1, 2), scale=2.0, groups=[0, 0, 1])
    assert grouped.labels_HW.tolist() == [[0, 0]]
    np.testing.assert_allclose(grouped.scores_HW, np.exp(2) / (np.exp(2) + 1), rtol=1e-6)


class OnCuda:
    """Stands for checked logits on a GPU; choosing looks only at the shape and the device."""

    device = torch.device("cuda")
    shape = (28, 28, 150)


@pytest.fixture
def triton_runs(monkeypatch):
    """Set what stands against Triton (None: nothing)."""
    monkeypatch.setattr(dispatch, "is_torch", lambda array: isinstance(array, OnCuda))
    obstacle = dispatch._obstacle

    def answer(reason):
        monkeypatch.setattr(
            dispatch, "_obstacle", lambda name, device: reason if name == "triton" else obstacle(name, device)
        )

    return answer


@pytest.mark.parametrize(
    ("obstacle", "size", "images_ahead", "name", "reason"),
    [
        (None, (512, 512), 1, "torch", "one image of this size is not worth compiling for"),
        (None, (512, 512), 40, "triton", "40 images are ahead"),
        (None, (4000, 6000), 1, "triton", "the image is large"),
        ("it is not installed", (512, 512), 40, "torch", "Triton cannot run: it is not installed"),
    ],
)
def test_choice_on_a_gpu(triton_runs, obstacle, size, images_ahead, name, reason):
    triton_runs(obstacle)
    chosen, why = dispatch.choose(OnCuda(), size, "auto", images_ahead)
    assert chosen == name
    assert reason in why


def test_choice_on_the_cpu():
    for images_ahead in (1, 1000):
        found = label_map(np.zeros((2, 2, 3), np.float32), (4, 4), images_ahead=images_ahead)
        assert (found.implementation, found.reason) == ("numpy", "the logits are on the CPU")


@pytest.mark.parametrize("implementation", CPU)
def test_forced(implementation):
    found = label_map(np.zeros((2, 2, 3), np.float32), (4, 4), implementation=implementation)
    assert (found.implementation, found.reason) == (implementation, "asked for")
    assert implementation in IMPLEMENTATIONS


def test_forced_numpy_on_a_gpu(triton_runs):
    triton_runs(None)
    with pytest.raises(DeviceError, match="numpy label map cannot run: the logits are on cuda"):
        dispatch.choose(OnCuda(), (4, 4), "numpy", 1)


@pytest.mark.skipif("TRITON_INTERPRET" in os.environ, reason="the interpreter runs on the CPU")
def test_forced_triton_on_the_cpu():
    pytest.importorskip("triton")
    with pytest.raises(DeviceError, match="triton label map cannot run: it needs a CUDA tensor, not one on cpu"):
        label_map(torch.zeros(2, 2, 3), (4, 4), implementation="triton")


@pytest.mark.parametrize(
    ("implementation", "package"), [("triton", "Triton"), ("torch", "torch"), ("reference", "torch")]
)
def test_forced_but_not_installed(monkeypatch, implementation, package):
    found = dispatch.importlib.util.find_spec
    monkeypatch.setattr(
        dispatch.importlib.util, "find_spec", lambda name: None if name == package.lower() else found(name)
    )
    with pytest.raises(DeviceError, match=f"{implementation} label map cannot run: {package} is not installed"):
        label_map(np.zeros((2, 2, 3), np.float32), (4, 4), implementation=implementation)


def test_import_is_light_and_the_cpu_needs_no_torch():
    code = """
import sys
import numpy as np
from clippy_core.kernels import label_map, patch_logits, softmax_label_map
rng = np.random.default_rng(0)
logits_hwK = patch_logits(rng.random((20, 8)), rng.random((30, 8)), (4, 5))
label_map(logits_hwK, (40, 50), scores=True, margins=True, groups=[0] * 10 + [1] * 20)
softmax_label_map(logits_hwK, (40, 50), scale=10.0)
print(sorted({"torch", "numba", "triton"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
