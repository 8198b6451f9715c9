"""Smaller numbers in an ONNX file: 16-bit floating point, or 8-bit integers. Inputs and outputs stay float32.

Shapes: B picture, H/W pixel.
"""

import contextlib
import io
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from clippy_core.errors import DataError, ImageError
from clippy_core.images import SUFFIXES, read_picture
from clippy_core.model.preprocess import to_input, working_size
from clippy_core.model.weights import LoadedModel

CALIBRATION_PICTURES = 64
"""At most so many are used, spread over the folder: more change the ranges little and cost a second each."""
PERCENTILE = 99.99
"""Share of activations, in per cent, that the 8-bit range covers; the few beyond are cut off."""


def quantise(path: Path, precision: str, calibration: Sequence[np.ndarray] | None = None) -> None:
    """Replace a tower's file by one in another precision.

    Args:
        path: The file, in 32-bit floating point.
        precision: ``fp16`` or ``int8``.
        calibration: Inputs to measure the ranges of 8-bit activations on; None measures them anew for every input.
    """
    with _quiet():
        if precision == "fp16":
            _to_half(path)
        elif calibration is not None:
            _to_int8_calibrated(path, calibration)
        else:
            _to_int8(path)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """ONNX Runtime's tools print, and warn through the root logger."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(disabled)


def _to_half(path: Path) -> None:
    import onnx
    import onnx_ir as ir
    from onnxruntime.transformers.float16 import convert_float_to_float16

    from clippy_core.export import assemble

    half = ir.from_proto(convert_float_to_float16(onnx.load(path), keep_io_types=True))
    half.graph.sort()  # the conversion puts casts behind the nodes that use them
    _drop_external(path)
    assemble.save(half, path)


def _to_int8(path: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    made = path.with_name(f"int8-{path.name}")
    # Unsigned weights: processors without VNNI overflow on signed ones, and convolutions are several times slower.
    quantize_dynamic(path, made, weight_type=QuantType.QUInt8, per_channel=True, nodes_to_exclude=sensitive_nodes(path))
    _replace(made, path)


def _to_int8_calibrated(path: Path, inputs: Sequence[np.ndarray]) -> None:
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    made = path.with_name(f"int8-{path.name}")
    quantize_static(
        path,
        made,
        _Reader(inputs),  # type: ignore[arg-type]
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=["Conv", "MatMul", "Gemm"],
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        nodes_to_exclude=sensitive_nodes(path),
        calibrate_method=CalibrationMethod.Percentile,
        # One picture at a time, which despite its name any method does: activations of all would not fit into memory.
        extra_options={"CalibPercentile": PERCENTILE, "CalibStridedMinMax": 1},
    )
    _replace(made, path)


class _Reader:
    """Calibration inputs as ONNX Runtime asks for them."""

    def __init__(self, inputs: Sequence[np.ndarray]) -> None:
        self._inputs = inputs
        self._left = iter(inputs)

    def __len__(self) -> int:
        return len(self._inputs)

    def set_range(self, start_index: int, end_index: int) -> None:
        """Go on with these inputs."""
        self._left = iter(self._inputs[start_index:end_index])

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next one; None after the last."""
        pixels = next(self._left, None)
        return None if pixels is None else {"pixels": pixels}


def sensitive_nodes(path: Path) -> list[str]:
    """Convolutions that stay in floating point: those that look at pixels, and those with a filter for each channel.

    They have 6 % of clippy-lite's weights, and 8 bits for them would cost 5 to 10 points of label agreement
    (docs/export.md).
    """
    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    shapes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    kept = []
    for node in graph.node:
        if node.op_type != "Conv" or node.input[1] not in shapes:
            continue
        groups = next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)
        if groups > 1 or shapes[node.input[1]][1] == 3:
            kept.append(node.name)
    return kept


def calibration_inputs(folder: Path, loaded: LoadedModel) -> list[np.ndarray]:
    """Pictures of a folder and those below it as the image tower takes them, each (1, 3, H, W).

    Raises:
        DataError: No such folder, or no picture in it that can be read.
    """
    if not folder.is_dir():
        raise DataError(f"--calibrate {folder}: no such folder; accepted: a folder of pictures")
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    step = max(1, len(found) // CALIBRATION_PICTURES)
    inputs, reasons = [], []
    vision = loaded.model.config.vision
    for path in found[::step][:CALIBRATION_PICTURES]:
        try:
            pixels_HW3 = read_picture(path).pixels_HW3
        except ImageError as error:
            reasons.append(str(error))
            continue
        size = working_size(pixels_HW3.shape[:2], vision.size, loaded.model.vision.stride)
        inputs.append(to_input(pixels_HW3, size, vision)[None])
    if not inputs:
        why = f": {reasons[0]}" if reasons else f"; accepted: {', '.join(sorted(SUFFIXES))}"
        raise DataError(f"--calibrate {folder}: no picture that can be read{why}")
    return inputs


def _replace(made: Path, path: Path) -> None:
    """Give the new file the old one's name; it may refer to weights beside it, so it is read and written again."""
    import onnx_ir as ir

    from clippy_core.export import assemble

    model: Any = ir.load(made)
    ir.external_data.load_to_model(model)
    _drop_external(path)
    assemble.save(model, path)
    made.unlink()
    made.with_name(f"{made.name}.data").unlink(missing_ok=True)


def _drop_external(path: Path) -> None:
    path.with_name(f"{path.name}.data").unlink(missing_ok=True)
