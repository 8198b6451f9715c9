"""Fetch, convert, keep: from a local server, with a model small enough for a test."""

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import timm
import torch
from transformers import BertConfig, BertModel

from clippy_core.errors import DataError, UsageError
from clippy_core.model import presets, pull
from clippy_core.model.cache import model_folder
from clippy_core.model.config import ModelConfig, TextConfig, VisionConfig
from clippy_core.model.directory import sha256
from clippy_core.model.presets import BUNDLED, Preset, PublishedWeights
from clippy_core.model.weights import load_directory

VIT = {"embed_dim": 32, "depth": 1, "num_heads": 2, "img_size": 32}
BERT = {
    "vocab_size": 30522,
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
CONFIG = ModelConfig(
    "tiny",
    VisionConfig("vit_tiny_patch16_224", size=32, trunk_args=VIT),
    TextConfig({"model_type": "bert", **BERT}),
)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture
def served(tmp_path: Path):
    """A checkpoint in OpenCLIP's layout behind a local address: its folder and the address of the file."""
    folder = tmp_path / "served"
    folder.mkdir()
    torch.manual_seed(0)
    trunk = timm.create_model("vit_tiny_patch16_224", num_classes=0, **VIT)
    bert = BertModel(BertConfig(**BERT), add_pooling_layer=False)
    state = {f"visual.trunk.{key}": value for key, value in trunk.state_dict().items()}
    state |= {f"text.transformer.{key}": value for key, value in bert.state_dict().items()}
    torch.save({"state_dict": {**state, "logit_scale": torch.tensor(2.0)}}, folder / "tiny.pt")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}/tiny.pt"
    server.shutdown()
    server.server_close()


@pytest.fixture
def offer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Make ``pull`` find a preset with the given address and hash, and keep everything below the test's folder."""
    monkeypatch.setenv("CLIPPY_CACHE", str(tmp_path / "cache"))

    def make(url: str | None, expected: str | None) -> None:
        weights = PublishedWeights(url, expected) if url else None
        preset = Preset(CONFIG, None, "a test", weights, tokenizer=str(BUNDLED / "clippy-lite"))
        registry = {"tiny": lambda: preset}
        for module in (presets, pull):
            monkeypatch.setattr(module, "get_preset", lambda name: registry[name]())
        monkeypatch.setattr("clippy_core.model.convert.get_preset", lambda name: registry[name]())
        monkeypatch.setattr("clippy_core.model.convert.MODELS", registry)

    return make


def test_what_is_pulled_loads_and_the_checkpoint_is_gone(served, offer):
    folder, url = served
    offer(url, sha256(folder / "tiny.pt"))
    seen = []
    directory = pull.pull("tiny", progress=lambda arrived, total: seen.append((arrived, total)))
    assert directory == model_folder("tiny")
    assert load_directory(directory).model.logit_scale.item() == 2.0
    size = (folder / "tiny.pt").stat().st_size
    assert seen[-1] == (size, size)
    assert not list(directory.parent.glob("tiny.download/*.pt*"))
    assert url in (directory / "README.md").read_text()


def test_a_wrong_hash_leaves_no_model(served, offer):
    _, url = served
    offer(url, "0" * 64)
    with pytest.raises(DataError, match="0000"):
        pull.pull("tiny")
    assert not model_folder("tiny").exists()


def test_a_server_that_is_gone_is_one_line(served, offer):
    offer("http://127.0.0.1:9/tiny.pt", None)
    with pytest.raises(DataError) as caught:
        pull.pull("tiny")
    assert "\n" not in str(caught.value)
    assert not model_folder("tiny").exists()


def test_a_model_that_nobody_publishes(offer):
    offer(None, None)
    with pytest.raises(UsageError, match="no published weights"):
        pull.pull("tiny")
