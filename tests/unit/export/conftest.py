"""Small models of the kinds of towers there are, with random weights; exported once."""

import json
import shutil
from dataclasses import replace

import onnx_ir as ir
import pytest
import torch

from clippy_core.export import assemble, graphs
from clippy_core.export.onnx import export_onnx
from clippy_core.export.options import ExportOptions
from clippy_core.model.config import ModelConfig, VisionConfig
from clippy_core.model.dual_encoder import DualEncoder
from clippy_core.model.presets import find
from clippy_core.model.weights import LoadedModel, load_directory, save_directory

ALL_PARTS = ("vision", "text", "segmenter", "labelmap")


def make(tiny_directory, vision, text=None):
    """A model whose tokenizer is that of ``tiny_directory``."""
    base = load_directory(tiny_directory)
    config = ModelConfig("made", vision, text or base.model.config.text, licence="Apache-2.0")
    torch.manual_seed(1)
    model = DualEncoder(config)
    with torch.no_grad():
        for name, value in model.named_buffers():
            if name.endswith("running_var"):
                value.uniform_(0.5, 2.0)
        for value in model.parameters():
            value.add_(torch.randn_like(value) * 0.02)
    return LoadedModel(model.eval(), base.tokenizer)


@pytest.fixture(scope="session", name="tiny_directory")
def _with_word_pieces(tiny_directory, tmp_path_factory):
    """The directory of that name, with a tokenizer of a kind that libraries in other languages know as well."""
    base = load_directory(tiny_directory)
    tokenizer = find("clippy-lite") / "tokenizer.json"
    text = replace(base.model.config.text, encoder={**base.model.config.text.encoder, "vocab_size": 30522})
    torch.manual_seed(0)
    model = DualEncoder(replace(base.model.config, text=text))
    directory = tmp_path_factory.mktemp("tiny") / "model"
    save_directory(directory, model, tokenizer.read_bytes(), "# tiny\n")
    return directory


@pytest.fixture(scope="session")
def tiny(tiny_directory):
    """A ViT and a BERT."""
    return load_directory(tiny_directory)


@pytest.fixture(scope="session")
def convolutional(tiny_directory):
    """Convolutions padded as TensorFlow pads them, joined with an earlier, finer level."""
    vision = VisionConfig(
        "test_efficientnet", size=64, levels=("blocks.1",), projection=24, trunk_args={"pad_type": "same"}
    )
    return make(tiny_directory, vision)


@pytest.fixture(scope="session")
def towers(tiny, tmp_path_factory):
    """The towers of ``tiny`` in fp32 as they are before anything is done to them; tracing takes long."""
    folder = tmp_path_factory.mktemp("towers")
    assemble.write_part(graphs.vision_part(tiny.model), folder / "vision.onnx", 20)
    assemble.write_part(graphs.text_part(tiny.model), folder / "text.onnx", 20)
    return folder


@pytest.fixture
def traced(towers, monkeypatch):
    """Take the towers of ``tiny`` from ``towers`` instead of tracing them."""

    def write(part, path, opset):
        assert opset == 20
        assemble.save(ir.load(towers / path.name), path)

    monkeypatch.setattr(assemble, "write_part", write)


@pytest.fixture(scope="session")
def exported(tiny, towers, tiny_directory, tmp_path_factory):
    """All parts of ``tiny`` in fp32: (folder, sheet)."""
    out = tmp_path_factory.mktemp("exported") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assemble, "write_part", lambda part, path, opset: shutil.copy(towers / path.name, path))
        export_onnx(tiny, out, ExportOptions(parts=ALL_PARTS, source=tiny_directory, seed=1))
    return out, json.loads((out / "onnx.json").read_text())
