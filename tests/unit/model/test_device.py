"""Which device and number format are taken, and what the user is told about it."""

import pytest
import torch

from clippy_core.errors import DeviceError, UsageError
from clippy_core.model import device
from clippy_core.model.device import place


@pytest.fixture
def machine(monkeypatch):
    """Make torch see a machine of our choice: a build with or without CUDA, so many GPUs, a driver file or none."""

    def pretend(*, built=True, gpus=0, present=False, bf16=True, failure=None):
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: built)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_: bf16)
        monkeypatch.setattr(device.Path, "exists", lambda path: present and "nvidia" in str(path))

        def zeros(*shape, device):
            if failure is not None:
                raise RuntimeError(failure)
            return None

        monkeypatch.setattr(torch, "zeros", zeros)

    return pretend


NONE = {"gpus": 0}
ONE = {"gpus": 1, "present": True}
TWO = {"gpus": 2, "present": True}
OLD = {"gpus": 1, "present": True, "bf16": False}


@pytest.mark.parametrize(
    ("surroundings", "name", "precision", "expected"),
    [
        (NONE, "auto", "auto", ("cpu", torch.float32)),
        (NONE, "cpu", "auto", ("cpu", torch.float32)),
        (NONE, "cpu", "fp32", ("cpu", torch.float32)),
        (NONE, "cpu", "bf16", ("cpu", torch.bfloat16)),
        (NONE, "auto", "bf16", ("cpu", torch.bfloat16)),
        ({"built": False}, "auto", "auto", ("cpu", torch.float32)),
        (ONE, "cpu", "auto", ("cpu", torch.float32)),
        (ONE, "auto", "auto", ("cuda:0", torch.bfloat16)),
        (OLD, "auto", "auto", ("cuda:0", torch.float16)),
        (ONE, "auto", "fp32", ("cuda:0", torch.float32)),
        (ONE, "auto", "fp16", ("cuda:0", torch.float16)),
        (ONE, "cuda", "auto", ("cuda:0", torch.bfloat16)),
        (ONE, "cuda:0", "auto", ("cuda:0", torch.bfloat16)),
        (TWO, "cuda:1", "auto", ("cuda:1", torch.bfloat16)),
        (TWO, "cuda", "bf16", ("cuda:0", torch.bfloat16)),
    ],
)
def test_what_is_taken(machine, surroundings, name, precision, expected):
    machine(**surroundings)
    placement = place(name, precision)
    assert (placement.device, placement.dtype) == (torch.device(expected[0]), expected[1])
    assert placement.notice == ""


@pytest.mark.parametrize("surroundings", [NONE, TWO], ids=["without GPU", "with GPUs"])
@pytest.mark.parametrize(
    "name", ["", "gpu", "CPU", "cpu:", "cpu:0", "cuda:", "cuda:-1", "cuda:x", "cuda:²", "cuda:1.0", "cuda 0", "auto:1"]
)
def test_a_word_that_names_no_device_is_refused(machine, surroundings, name):
    machine(**surroundings)
    with pytest.raises(UsageError) as caught:
        place(name)
    assert str(caught.value) == f"--device is {name!r}; accepted: auto, cpu, cuda, cuda:N"


@pytest.mark.parametrize("precision", ["", "fp8", "FP32", "float32", "half"])
def test_a_word_that_names_no_precision_is_refused(machine, precision):
    machine()
    with pytest.raises(UsageError) as caught:
        place("cpu", precision)
    assert str(caught.value) == f"--precision is {precision!r}; accepted: auto, fp32, bf16, fp16"


@pytest.mark.parametrize("name", ["cpu", "auto"])
def test_fp16_on_the_cpu_is_refused(machine, name):
    machine()
    with pytest.raises(UsageError, match=r"--precision fp16 needs a GPU; accepted on the CPU: fp32, bf16"):
        place(name, "fp16")


UNUSABLE = [
    ({"built": False, "present": True}, r"torch .* was installed without CUDA"),
    ({"gpus": 0, "present": True}, "the driver offers no device"),
    ({**ONE, "failure": "CUDA error: no kernel image\nCompile with TORCH_USE_CUDA_DSA"}, "CUDA error: no kernel image"),
    ({**ONE, "failure": "CUDA driver version is insufficient"}, "CUDA driver version is insufficient"),
]


@pytest.mark.parametrize(("surroundings", "reason"), UNUSABLE)
def test_a_gpu_that_cannot_be_used_is_said_in_one_line(machine, surroundings, reason):
    machine(**surroundings)
    placement = place()
    assert (placement.device, placement.dtype) == (torch.device("cpu"), torch.float32)
    assert "\n" not in placement.notice
    with pytest.raises(AssertionError, match=rf"^there is a GPU, but it cannot be used \({reason}\); using the CPU$"):
        raise AssertionError(placement.notice)


@pytest.mark.parametrize(("surroundings", "reason"), UNUSABLE)
@pytest.mark.parametrize("name", ["cuda", "cuda:0"])
def test_a_gpu_that_was_asked_for_and_cannot_be_used_is_an_error(machine, surroundings, reason, name):
    machine(**surroundings)
    with pytest.raises(
        DeviceError, match=rf"^--device {name} cannot be used: {reason}; --device cpu works everywhere$"
    ):
        place(name)


@pytest.mark.parametrize(
    ("surroundings", "name", "reason"),
    [
        (NONE, "cuda", "no NVIDIA GPU was found"),
        ({"built": False}, "cuda", "was installed without CUDA"),
        (ONE, "cuda:1", "1 GPU was found, numbered from 0"),
        (TWO, "cuda:2", "2 GPUs were found, numbered from 0"),
        (TWO, "cuda:9999", "2 GPUs were found"),
    ],
)
def test_a_gpu_that_is_not_there_is_an_error_with_the_number_found(machine, surroundings, name, reason):
    machine(**surroundings)
    with pytest.raises(DeviceError, match=reason):
        place(name)


@pytest.mark.parametrize("hidden", ["", "-1"])
def test_a_gpu_that_the_user_has_hidden_is_not_mentioned(machine, monkeypatch, hidden):
    machine(gpus=0, present=True)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    assert place().notice == ""
    with pytest.raises(DeviceError, match="no NVIDIA GPU was found"):
        place("cuda")


@pytest.mark.parametrize(
    ("precision", "expected"), [("fp32", torch.float32), ("auto", torch.float32), ("bf16", torch.bfloat16)]
)
def test_autocast_computes_in_the_precision(precision, expected):
    weights = torch.ones(4, 4)
    with place("cpu", precision).autocast():
        assert (weights @ weights).dtype == expected


@pytest.mark.gpu
def test_a_real_gpu_is_taken():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    placement = place()
    assert placement.device.type == "cuda"
    assert placement.notice == ""
    with placement.autocast():
        weights = torch.ones(4, 4, device=placement.device)
        assert (weights @ weights).dtype == placement.dtype
