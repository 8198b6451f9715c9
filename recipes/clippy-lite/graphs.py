"""Write the weightless graphs that ship with the package: `python recipes/clippy-lite/graphs.py`.

Needs the packages `onnx`, `onnxscript` and `onnxruntime`. Only a change of the architecture in `config.json` makes this
necessary; other weights do not. What the folder holds is said in `clippy_core/model/graphs.py`.

Shapes: B picture or text, L token, H/W pixel, h/w grid, D embedding.
"""

import argparse
import tempfile
import warnings
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import timm.layers.padding
import torch
from torch import Tensor, nn

from clippy_core.files import to_json, write_bytes
from clippy_core.model.dual_encoder import DualEncoder
from clippy_core.model.graphs import DOCUMENT, FOLDER, FORMAT, architecture
from clippy_core.model.presets import find
from clippy_core.model.weights import load_directory

OPSET = 18


class Vision(nn.Module):
    """Pixels to unit features on the grid, and pooled."""

    def __init__(self, model: DualEncoder) -> None:
        super().__init__()
        self.vision = model.vision
        self._encode = model.encode_image

    def forward(self, pixels_B3HW: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, h, w, D) and (B, D)."""
        found = self._encode(pixels_B3HW)
        batch, _, height, width = pixels_B3HW.shape
        grid = height // self.vision.stride, width // self.vision.stride
        return found.patches_BPD.view(batch, *grid, -1), found.pooled_BD


class Text(nn.Module):
    """Token numbers to unit embeddings."""

    def __init__(self, model: DualEncoder) -> None:
        super().__init__()
        self.text = model.text
        self._encode = model.encode_text

    def forward(self, ids_BL: Tensor, mask_BL: Tensor) -> Tensor:
        """Embeddings (B, D)."""
        return self._encode(ids_BL, mask_BL)


def same_size_pool(features: Tensor, grid: Any) -> Tensor:
    """Stands in for the pooling of a level to the grid, which ONNX has no operator for and this model no need of."""
    if tuple(int(side) for side in features.shape[-2:]) != tuple(int(side) for side in grid):
        raise SystemExit("a level has another grid than the last one: these graphs cannot be made this way")
    return features


def fixed_padding(side: Any, kernel: int, stride: int, dilation: int) -> int:
    """How far a convolution that keeps the size reaches beyond one side: a number rather than traced arithmetic.

    The same for all sides that are multiples of the model's stride, as all that it is ever given are.
    """
    return max((-(-int(side) // stride) - 1) * stride + (kernel - 1) * dilation + 1 - int(side), 0)


def write(model: DualEncoder, folder: Path) -> None:
    """Export both towers without their weights."""
    torch.nn.functional.adaptive_avg_pool2d = same_size_pool  # type: ignore[assignment]
    timm.layers.padding.get_same_padding = fixed_padding
    stride = model.vision.stride
    pixels = torch.randn(2, 3, 16 * stride, 20 * stride)
    ids = torch.randint(5, 1000, (3, 9))
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    parts = {
        "vision": (Vision(model), (pixels,), {"pixels": "BxHW"}, {"patches": "Bhw", "pooled": "B"}),
        "text": (Text(model), (ids, mask), {"ids": "BL", "mask": "BL"}, {"embeddings": "B"}),
    }
    table = next(name for name, _ in model.named_parameters() if name.endswith("word_embeddings.weight"))
    weights = {}
    for part, (module, inputs, names_in, names_out) in parts.items():
        file = folder / f"{part}.onnx"
        folder.mkdir(parents=True, exist_ok=True)
        axes = {
            name: {i: letter for i, letter in enumerate(letters) if letter != "x"}
            for name, letters in (names_in | names_out).items()
        }
        with torch.no_grad(), warnings.catch_warnings():
            # The older exporter traces these towers in seconds, where the newer one needs minutes to reason about the
            # paddings of every size; it says that it is the older one.
            warnings.simplefilter("ignore")
            torch.onnx.export(
                module.eval(), inputs, str(file), dynamo=False, opset_version=OPSET, do_constant_folding=False,
                input_names=list(names_in), output_names=list(names_out), dynamic_axes=axes,
            )  # fmt: skip
        exported, weights[part] = without_weights(onnx.load(file), table, dict(model.state_dict()))
        write_bytes(file, exported)
    document = {
        "format": FORMAT, "architecture": architecture(model.config), "opset": OPSET, "stride": stride,
        "embedding": model.vision.width, "table": table, "weights": weights,
    }  # fmt: skip
    write_bytes(folder / DOCUMENT, to_json(document))


def without_weights(exported: Any, table: str, state: dict[str, Tensor]) -> tuple[bytes, dict[str, list[int]]]:
    """Take the model's own tensors out of a graph; the graph, and their shapes by name.

    While they are inputs of the graph, ONNX Runtime works out everything that depends on none of them, and leaves the
    rest as it is. Then all but the table become external data without a file.
    """
    graph = exported.graph
    own = [tensor for tensor in graph.initializer if tensor.name in state]
    for tensor in own:
        rows = "U" if tensor.name == table else tensor.dims[0]
        shape = [rows, *tensor.dims[1:]]
        graph.initializer.remove(tensor)
        graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, shape))
    smaller = folded(exported)
    for tensor in own:
        if tensor.name != table:
            size = len(tensor.raw_data)
            tensor.ClearField("raw_data")
            tensor.data_location = onnx.TensorProto.EXTERNAL
            for key, value in {"location": "model.safetensors", "offset": 0, "length": size}.items():
                entry = tensor.external_data.add()
                entry.key, entry.value = key, str(value)
            smaller.graph.input.remove(next(given for given in smaller.graph.input if given.name == tensor.name))
            smaller.graph.initializer.append(tensor)
    return smaller.SerializeToString(), {tensor.name: list(tensor.dims) for tensor in own}


def folded(exported: Any) -> Any:
    """The graph after ONNX Runtime's basic optimisation, which uses standard operators only."""
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(Path(folder) / "graph.onnx")
        onnxruntime.InferenceSession(exported.SerializeToString(), options, providers=["CPUExecutionProvider"])
        smaller = onnx.load(options.optimized_model_filepath)
    standard = [entry for entry in smaller.opset_import if entry.domain == ""]
    del smaller.opset_import[:], smaller.graph.value_info[:]
    smaller.opset_import.extend(standard)
    return smaller


def main() -> None:
    """Parse the command line and write the folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="clippy-lite", help="name or model directory (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=FOLDER / "clippy-lite", help="folder (default: %(default)s)")
    arguments = parser.parse_args()
    write(load_directory(find(arguments.model)).model, arguments.out)


if __name__ == "__main__":
    main()
