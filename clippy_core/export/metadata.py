"""What exported files say about themselves: ``onnx.json`` beside them, and the essentials inside each."""

import hashlib
import json
from pathlib import Path
from typing import Any

from clippy_core.export.options import ExportOptions
from clippy_core.model.directory import WEIGHTS, read_manifest, sha256
from clippy_core.model.weights import LoadedModel, tied_names, write_tensors
from clippy_core.version import __version__

SHEET = "onnx.json"
FORMAT = 1
LABEL_SYNTAX = (
    "labels are separated by commas and synonyms by |, as in dog|puppy,grass; every word is put into every template, "
    "a word's embedding is the mean over templates brought to unit length, and a label's score the highest of its words"
)


def describe(loaded: LoadedModel, options: ExportOptions) -> dict[str, Any]:
    """What all files of an export have in common."""
    model = loaded.model
    vision = model.config.vision
    return {
        "format": FORMAT,
        "model": model.config.name,
        "source_sha256": weights_hash(loaded, options.source),
        "precision": options.precision,
        "opset": options.opset,
        "stride": model.vision.stride,
        "embedding": model.vision.width,
        "logit_scale": float(model.logit_scale.detach().exp().clamp(max=100.0)),
        "preprocessing": {
            "size": vision.size,
            "mean": list(vision.mean),
            "std": list(vision.std),
            "resample": "bicubic",
        },
        "max_tokens": model.config.text.max_tokens,
        "label_syntax": LABEL_SYNTAX,
        "templates": list(model.config.templates),
        "licence": model.config.licence,
        "version": __version__,
    }


def properties(common: dict[str, Any], part: str) -> dict[str, str]:
    """The same as text properties of one ONNX file; what is not text is JSON."""
    named = {f"clippy.{key}": value for key, value in {"part": part, **common}.items()}
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in named.items()}


def describe_file(path: Path) -> dict[str, Any]:
    """Size, hash, inputs and outputs of an ONNX file; a file with its weights is named with size and hash too."""
    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    entry: dict[str, Any] = {
        "bytes": path.stat().st_size,
        "sha256": sha256(path),
        "inputs": {value.name: _tensor(value) for value in graph.input},
        "outputs": {value.name: _tensor(value) for value in graph.output},
    }
    beside = path.with_name(f"{path.name}.data")
    if beside.is_file():
        entry["external"] = {beside.name: {"bytes": beside.stat().st_size, "sha256": sha256(beside)}}
    return entry


def _tensor(value: Any) -> dict[str, Any]:
    import onnx

    tensor = value.type.tensor_type
    kind = onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
    return {
        "type": {"float": "float32"}.get(kind, kind),
        "shape": [axis.dim_param or axis.dim_value for axis in tensor.shape.dim],
    }


def weights_hash(loaded: LoadedModel, source: Path | None) -> str:
    """SHA-256 of the model directory's weights as its manifest has it, or of the weights written in fp32."""
    if source is not None:
        entry = read_manifest(source).get(WEIGHTS, {})
        if isinstance(entry, dict) and isinstance(entry.get("sha256"), str):
            return entry["sha256"]
    tied = tied_names(loaded.model)
    state = {key: tensor for key, tensor in loaded.model.state_dict().items() if key not in tied}
    file = _HashedOnly()
    write_tensors(file, state, "fp32")
    return file.hash.hexdigest()


class _HashedOnly:
    """A file of which only the hash is wanted."""

    def __init__(self) -> None:
        self.hash = hashlib.sha256()

    def write(self, data: Any) -> None:
        self.hash.update(data)
