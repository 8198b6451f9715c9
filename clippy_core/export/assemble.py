"""From traced parts to ONNX files: names, shapes, metadata, and the parts that are made of others.

Shapes: B picture, H/W pixel, h/w grid, D embedding, K label.
"""

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from clippy_core.errors import DataError, DeviceError
from clippy_core.export.graphs import Part, trace

if TYPE_CHECKING:
    import onnx_ir as ir

EXTERNAL_ABOVE = 2**31 - 2**24
"""Bytes of weights above which they go to a file of their own, ``NAME.data``: a protobuf ends at 2 GiB."""
PRODUCER = "clippy"


def require_packages() -> None:
    """Make sure that what writes and checks ONNX files is installed.

    Raises:
        DeviceError: A package is missing; how to install it is said.
    """
    for package in ("onnx", "onnxscript", "onnxruntime"):
        try:
            __import__(package)
        except ImportError as error:
            raise DeviceError(
                f"`clippy export onnx` needs {package}, which cannot be imported ({error}); "
                "install it with: pip install 'clippy-vlm[onnx]'"
            ) from error


def write_part(part: Part, path: Path, opset: int) -> None:
    """Trace a part and write it as an ONNX file in 32-bit floating point.

    Raises:
        DataError: Its towers do what cannot be traced, or has no counterpart in ONNX.
    """
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass

    traced = trace(part)
    try:
        with _quiet():
            program = torch.onnx.export(
                traced,
                dynamo=True,
                opset_version=opset,
                input_names=list(part.inputs),
                output_names=list(part.outputs),
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        reason = (str(error.__cause__ or error).strip().splitlines() or [type(error).__name__])[0]
        raise DataError(f"the model's {part.name} cannot be written as ONNX: {reason[:300]}") from error
    assert program is not None, "the exporter of torch returns a program unless it is asked for a file"
    model = program.model
    # Where in whose code a node came from, with paths of this machine, is nobody else's business.
    ClearMetadataAndDocStringPass()(model)
    for value in (*model.graph.inputs, *model.graph.outputs):
        _name_axes(value, part.axes[str(value.name)])
    save(model, path)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without remarks that concern authors of exporters."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _name_axes(value: "ir.Value", axes: Sequence[str | int]) -> None:
    import onnx_ir as ir

    value.shape = ir.Shape(list(axes))


def write_segmenter(vision: Path, path: Path, width: int) -> None:
    """Write the file that compares every location with label embeddings, from the file of the image tower.

    Args:
        vision: The file of the image tower.
        path: What to write.
        width: D, channels of an embedding.
    """
    import onnx_ir as ir
    from onnx_ir.passes.common import RemoveUnusedNodesPass

    model = ir.load(vision)
    graph = model.graph
    patches_BhwD = next(value for value in graph.outputs if value.name == "patches")
    labels_KD = _value("labels", ("label_count", width))
    graph.inputs.append(labels_KD)
    floor = _constant(graph, "labels_floor", [1e-12])
    axis = _constant(graph, "labels_axis", [-1])
    norm_K1 = _add(graph, "ReduceL2", [labels_KD, axis], "labels_norm")
    unit_KD = _add(graph, "Div", [labels_KD, _add(graph, "Max", [norm_K1, floor], "labels_length")], "labels_unit")
    unit_DK = _add(graph, "Transpose", [unit_KD], "labels_columns", perm=[1, 0])
    logits = _add(graph, "MatMul", [patches_BhwD, unit_DK], "logits")
    _shape(logits, ("batch", "rows", "columns", "label_count"))
    graph.outputs[:] = [logits]
    RemoveUnusedNodesPass()(model)
    save(model, path)


def write_labelmap(segmenter: Path, path: Path) -> None:
    """Write the file that gives a label for every pixel, from the one that gives cosines on the grid.

    One label after the other is brought to the pixels and compared with the best so far, so that memory is that of a
    few pictures however many labels there are.
    """
    import onnx_ir as ir

    model = ir.load(segmenter)
    graph = model.graph
    logits_BhwK = graph.outputs[0]
    size = _value("size", (2,), ir.DataType.INT64)
    graph.inputs.append(size)
    logits_KBhw = _add(graph, "Transpose", [logits_BhwK], "logits_first", perm=[3, 0, 1, 2])
    shape_4 = _add(graph, "Shape", [logits_KBhw], "logits_shape")
    one, two = _constant(graph, "one", [1]), _constant(graph, "two", [2])
    batch_1 = _add(graph, "Slice", [shape_4, one, two], "logits_batch")
    planes = _add(graph, "Concat", [batch_1, size], "planes_shape", axis=0)
    start_best = _add(
        graph, "ConstantOfShape", [planes], "best_start", value=ir.tensor([float("-inf")], ir.DataType.FLOAT)
    )
    start_label = _add(graph, "ConstantOfShape", [planes], "label_start", value=ir.tensor([0], ir.DataType.INT32))
    start_index = _constant(graph, "index_start", 0, ir.DataType.INT32)
    scan = ir.node(
        "Scan",
        [start_best, start_label, start_index, logits_KBhw],
        attributes={"body": _best_so_far(size, one), "num_scan_inputs": 1},
        num_outputs=3,
        name="scan_labels",
    )
    graph.append(scan)
    labels = scan.outputs[1]
    for output, name in zip(scan.outputs, ("best", "labels_BHW", "count"), strict=True):
        output.name = name
    labels.name = "label_map"
    labels.type, labels.shape = ir.TensorType(ir.DataType.INT32), ir.Shape(["batch", "out_height", "out_width"])
    graph.outputs[:] = [labels]
    save(model, path)


def _best_so_far(size: "ir.Value", one: "ir.Value") -> "ir.Graph":
    """Body of the loop over labels: the best cosine and its label for every pixel, with one more label seen."""
    import onnx_ir as ir

    best = _value("best_in", ("batch", "out_height", "out_width"))
    label = _value("label_in", ("batch", "out_height", "out_width"), ir.DataType.INT32)
    index = _value("index_in", (), ir.DataType.INT32)
    plane = _value("plane_in", ("batch", "rows", "columns"))
    body = ir.Graph([best, label, index, plane], [], nodes=[], name="best_so_far")
    step = ir.tensor(1, ir.DataType.INT32)
    channel = _add(body, "Unsqueeze", [plane, one], "plane_channel")
    rows = _add(body, "Shape", [channel], "plane_shape", start=0, end=2)
    sizes = _add(body, "Concat", [rows, size], "plane_sizes", axis=0)
    wide = _add(
        body,
        "Resize",
        [channel, None, None, sizes],
        "plane_wide",
        mode="linear",
        coordinate_transformation_mode="half_pixel",
    )
    pixels = _add(body, "Squeeze", [wide, one], "plane_pixels")
    better = _add(body, "Greater", [pixels, best], "better")
    best_out = _add(body, "Where", [better, pixels, best], "best_out")
    label_out = _add(body, "Where", [better, index, label], "label_out")
    index_out = _add(body, "Add", [index, _add(body, "Constant", [], "step", value=step)], "index_out")
    for value, kind in ((best_out, "FLOAT"), (label_out, "INT32"), (index_out, "INT32")):
        value.type = ir.TensorType(ir.DataType[kind])
        body.outputs.append(value)
    return body


def _value(name: str, axes: Sequence[str | int], kind: Any = None) -> "ir.Value":
    import onnx_ir as ir

    return ir.Value(name=name, shape=ir.Shape(list(axes)), type=ir.TensorType(kind or ir.DataType.FLOAT))


def _shape(value: "ir.Value", axes: Sequence[str | int]) -> None:
    import onnx_ir as ir

    value.type, value.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape(list(axes))


def _constant(graph: "ir.Graph", name: str, content: Any, kind: Any = None) -> "ir.Value":
    import onnx_ir as ir

    return _add(graph, "Constant", [], name, value=ir.tensor(content, kind))


def _add(graph: "ir.Graph", op: str, inputs: Sequence[Any], output: str, **attributes: Any) -> "ir.Value":
    """Append a node with one output of that name, and return the output."""
    import onnx_ir as ir

    node = ir.node(op, inputs, attributes=attributes or None, num_outputs=1, name=f"clippy_{output}")
    node.outputs[0].name = output
    graph.append(node)
    return node.outputs[0]


def save(model: "ir.Model", path: Path) -> None:
    """Write a model; weights of more than :data:`EXTERNAL_ABOVE` bytes go to a file beside it."""
    import onnx_ir as ir

    weights = sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value)
    if weights > EXTERNAL_ABOVE:
        ir.save(model, path, external_data=f"{path.name}.data")
    else:
        ir.save(model, path)


def set_metadata(path: Path, properties: Mapping[str, str]) -> None:
    """Put text properties into a file, and say that it needs no later format than its operators do."""
    import onnx

    model = onnx.load(path, load_external_data=False)
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, dict(properties))
    model.producer_name = PRODUCER
    # The converter writes a later one, at which older runtimes turn the file down unread.
    model.ir_version = onnx.helper.find_min_ir_version_for(list(model.opset_import))
    del model.graph.value_info[:]
    onnx.save(model, path)
