"""A real model small enough to be built in a moment, and ways to get exactly the logits a test needs."""

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer as Backend
from tokenizers import models, normalizers, pre_tokenizers, processors

from clippy_core.images import Picture
from clippy_core.model.config import ModelConfig, TextConfig, VisionConfig
from clippy_core.model.device import place
from clippy_core.model.dual_encoder import DualEncoder
from clippy_core.model.tokenizer import Tokenizer
from clippy_core.model.weights import LoadedModel
from clippy_core.segmentation.result import Segmentation
from clippy_core.segmentation.segmenter import Segmenter

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.|"
TEXT = {
    "model_type": "bert",
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "vocab_size": 4 + 2 * len(LETTERS),
    "max_position_embeddings": 64,
}


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Several threads for matrices this small only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def loaded(tmp_path_factory):
    """A vision transformer and a one-layer BERT with random weights, and a tokenizer that knows the letters."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *LETTERS, *(f"##{letter}" for letter in LETTERS)]
    backend = Backend(models.WordPiece({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    path = tmp_path_factory.mktemp("model") / "tokenizer.json"
    backend.save(str(path))
    vision = VisionConfig(backbone="test_vit", size=64)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = DualEncoder(ModelConfig("tiny", vision, TextConfig(TEXT, projection=64, max_tokens=64)))
    return LoadedModel(model.eval(), Tokenizer(path, 64))


@pytest.fixture
def segmenter(loaded):
    """A segmenter of its own for each test, on the CPU in float32."""
    return Segmenter(loaded, place("cpu", "fp32"))


@pytest.fixture
def given_logits(segmenter, monkeypatch):
    """``given_logits(logits_hwK)`` → a segmenter for which these are the cosines of location and word."""

    def give(logits_hwK):
        features_hwK = torch.tensor(np.asarray(logits_hwK, np.float32))
        grid, words = tuple(features_hwK.shape[:2]), features_hwK.shape[2]
        monkeypatch.setattr(segmenter, "encode", lambda pixels, options=None: (features_hwK.flatten(0, 1), grid))
        monkeypatch.setattr(segmenter, "embed_words", lambda words_, templates: torch.eye(words)[: len(words_)])
        return segmenter

    return give


@pytest.fixture
def segmentation():
    """``segmentation(label_map, labels, …)`` → a result made by hand, on a grey picture."""

    def make(label_map, labels=None, *, scores=None, colour=(120, 130, 140), **fields):
        label_map = np.asarray(label_map)
        if label_map.dtype not in (np.uint8, np.uint16):
            label_map = label_map.astype(np.uint8)
        limit = int(np.iinfo(label_map.dtype).max)
        if labels is None:
            labels = tuple(f"label {i}" for i in range(int(label_map[label_map != limit].max(initial=0)) + 1))
        if scores is None:
            scores = np.linspace(-0.5, 0.5, len(labels))
        pixels_HW3 = np.empty((*label_map.shape, 3), np.uint8)
        pixels_HW3[:] = colour
        return Segmentation(
            picture=Picture(pixels_HW3, "PNG"),
            label_map=label_map,
            labels=tuple(labels),
            scores=np.asarray(scores, np.float32),
            **{"model": "tiny", "source": "photo.png", **fields},
        )

    return make


@pytest.fixture
def picture_file(tmp_path):
    """``picture_file("a/b.png", seed)`` → a small picture of its own under the test's folder."""

    def make(name, seed=0, size=(40, 56)):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        blocks = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), np.uint8)
        Image.fromarray(blocks).resize(size[::-1], Image.Resampling.NEAREST).save(path)
        return path

    return make
