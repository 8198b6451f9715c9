"""The Triton kernel without a GPU: its results in Triton's interpreter, and that it compiles for real devices."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")
PROPERTIES = Path(__file__).parents[2] / "property" / "test_kernels_label_map.py"


def test_interpreter_matches_float64():
    # The interpreter is chosen when a kernel is defined, so it needs a process of its own.
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(PROPERTIES), "-k", "triton"],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("flags", [(False, False, False), (True, True, True)], ids=["labels", "everything"])
def test_compiles_for(capability, flags):
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from clippy_core.kernels import triton_kernel

    kernel = triton_kernel._label_cell
    constants = dict(zip(("GROUPS", "SCORES", "MARGINS"), flags, strict=True))
    constants |= {"P": triton_kernel.PIXELS, "BLOCK": triton_kernel.PROMPTS}
    kinds = dict.fromkeys(kernel.arg_names, "i32") | dict.fromkeys(constants, "constexpr") | {"slack": "fp32"}
    kinds |= dict.fromkeys(("logits", "ty_H", "tx_W", "scores", "margins"), "*fp32")
    kinds |= dict.fromkeys(("groups", "row_start", "column_start", "labels"), "*i32")
    places = {(kernel.arg_names.index(name),): value for name, value in constants.items()}
    compiled = triton.compile(
        ASTSource(kernel, signature=kinds, constexprs=places),
        target=GPUTarget("cuda", capability, 32),
        options=triton_kernel.OPTIONS,
    )
    assert compiled.asm["cubin"]
