"""Which device and number format to compute with, and why. Imports torch only where a device is really looked at."""

import os
import re
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from clippy_core.errors import DeviceError, UsageError

if TYPE_CHECKING:
    import torch

PRECISIONS = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
"""Number formats, each with torch's name for it."""

SIGNS_OF_A_GPU = ("/dev/nvidia0", "/proc/driver/nvidia/version")
OTHER_SIGNS_OF_A_GPU = ("/dev/dxg", "/dev/kfd", "C:/Windows/System32/nvcuda.dll")
"""Where torch may find a GPU although the driver's usual files are missing: WSL, ROCm, Windows."""


class Placement(NamedTuple):
    """Where a model runs.

    Attributes:
        device: The device.
        dtype: What matrix products are computed in; embeddings and logits are always float32.
        notice: One line the user should see, such as a GPU that is there but cannot be used; empty if there is none.
    """

    device: "torch.device"
    dtype: "torch.dtype"
    notice: str

    def autocast(self) -> AbstractContextManager[object]:
        """A context in which the towers compute in ``dtype``."""
        import torch

        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)


def place(device: str = "auto", precision: str = "auto") -> Placement:
    """Choose a device and a precision.

    Args:
        device: ``auto`` (a GPU that works, else the CPU), ``cpu``, ``cuda`` or ``cuda:N``.
        precision: ``auto`` (bf16 or fp16 on a GPU, fp32 on the CPU), ``fp32``, ``bf16`` or ``fp16``.

    Raises:
        UsageError: Another word, or fp16 on the CPU.
        DeviceError: The GPU asked for is not there or cannot be used, with the reason and the number found.
    """
    check_words(device, precision)
    import torch

    chosen, notice = _device(device)
    if precision == "auto":
        half = torch.bfloat16 if chosen.type == "cuda" and torch.cuda.is_bf16_supported() else torch.float16
        return Placement(chosen, half if chosen.type == "cuda" else torch.float32, notice)
    if precision == "fp16" and chosen.type == "cpu":
        raise UsageError("--precision fp16 needs a GPU; accepted on the CPU: fp32, bf16")
    return Placement(chosen, getattr(torch, PRECISIONS[precision]), notice)


def check_words(device: str, precision: str) -> None:
    """Make sure that both are words that :func:`place` accepts.

    Raises:
        UsageError: One is not.
    """
    if precision not in ("auto", *PRECISIONS):
        raise UsageError(f"--precision is {precision!r}; accepted: auto, {', '.join(PRECISIONS)}")
    if not re.fullmatch(r"auto|cpu|cuda(:[0-9]{1,4})?", device):
        raise UsageError(f"--device is {device!r}; accepted: auto, cpu, cuda, cuda:N")


def surely_cpu(device: str) -> bool:
    """Whether ``device`` means the CPU beyond doubt, found out without torch; only torch knows whether a GPU works."""
    if device == "auto":
        return sys.platform == "darwin" or not (_gpu_present() or any(map(os.path.exists, OTHER_SIGNS_OF_A_GPU)))
    return device == "cpu"


def _device(name: str) -> "tuple[torch.device, str]":
    import torch

    if name == "cpu":
        return torch.device("cpu"), ""
    index = int(name.partition(":")[2] or 0)
    problem = _cuda_problem(index)
    if not problem:
        return torch.device("cuda", index), ""
    if name != "auto":
        raise DeviceError(f"--device {name} cannot be used: {problem}; --device cpu works everywhere")
    notice = f"there is a GPU, but it cannot be used ({problem}); using the CPU" if _gpu_present() else ""
    return torch.device("cpu"), notice


def _cuda_problem(index: int) -> str:
    import torch

    if not torch.backends.cuda.is_built():
        return f"torch {torch.__version__} was installed without CUDA"
    count = torch.cuda.device_count()
    if not count:
        return "the driver offers no device" if _gpu_present() else "no NVIDIA GPU was found"
    if index >= count:
        return f"{count} GPU{'s were' if count > 1 else ' was'} found, numbered from 0"
    try:
        torch.zeros(1, device=torch.device("cuda", index))
    except RuntimeError as error:
        return str(error).splitlines()[0]
    return ""


def _gpu_present() -> bool:
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    return (hidden is None or hidden not in ("", "-1")) and any(Path(sign).exists() for sign in SIGNS_OF_A_GPU)
