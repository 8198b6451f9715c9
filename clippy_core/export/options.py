"""What an exporter is told besides the model and the folder. Imports no torch."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from clippy_core.errors import UsageError

PARTS = ("vision", "text", "segmenter", "labelmap")
DEFAULT_PARTS = ("vision", "text", "segmenter")
PRECISIONS = ("none", "fp16", "int8")
MIN_OPSET, DEFAULT_OPSET, MAX_OPSET = 18, 20, 23
"""Operator sets of ONNX. 18 brings ``Resize`` and reductions in the form written here. 20 is read by every ONNX Runtime
since 1.17 (January 2024), the oldest with wheels for Python 3.12, and nothing later is used. Source: ONNX Runtime's
compatibility table, https://onnxruntime.ai/docs/reference/compatibility.html."""


@dataclass(frozen=True)
class ExportOptions:
    """How to export.

    Attributes:
        parts: What to write; see :data:`PARTS`.
        quantize: ``none`` for 32-bit floating point, ``fp16`` for 16-bit, ``int8`` for 8-bit integers.
        calibrate: Folder of pictures that the ranges of 8-bit activations are measured on; None measures them anew for
            every input.
        opset: Operator set of the files.
        source: Model directory that the weights came from, for its hash; None hashes the weights themselves.
        seed: Of the inputs that the files are checked with; None draws one.
        tell: Called with a line about each step, for whoever waits.

    Raises:
        UsageError: A value that is not accepted, or does not fit the others.
    """

    parts: tuple[str, ...] = DEFAULT_PARTS
    quantize: str = "none"
    calibrate: Path | None = None
    opset: int = DEFAULT_OPSET
    source: Path | None = None
    seed: int | None = None
    tell: Callable[[str], None] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        unknown = [part for part in self.parts if part not in PARTS]
        if unknown or not self.parts or len(set(self.parts)) < len(self.parts):
            raise UsageError(f"--parts is {','.join(self.parts)!r}; accepted: {', '.join(PARTS)}, each at most once")
        if self.quantize not in PRECISIONS:
            raise UsageError(f"--quantize is {self.quantize!r}; accepted: {', '.join(PRECISIONS)}")
        if self.calibrate is not None and self.quantize != "int8":
            raise UsageError(f"--calibrate measures for --quantize int8; --quantize is {self.quantize!r}")
        if self.calibrate is not None and set(self.parts) == {"text"}:
            raise UsageError("--calibrate measures ranges of the image tower; --parts is 'text', which has none")
        if not MIN_OPSET <= self.opset <= MAX_OPSET:
            raise UsageError(f"--opset is {self.opset}; accepted: {MIN_OPSET} to {MAX_OPSET}")

    @property
    def precision(self) -> str:
        """The number format by its name in ``onnx.json``."""
        return "fp32" if self.quantize == "none" else self.quantize

    def chosen(self) -> list[str]:
        """Options of the command line that differ from their defaults."""
        default = ExportOptions()
        names = ("parts", "quantize", "calibrate", "opset")
        return [f"--{name}" for name in names if getattr(self, name) != getattr(default, name)]

    def say(self, line: str) -> None:
        """Pass a line to whoever waits."""
        if self.tell is not None:
            self.tell(line)
