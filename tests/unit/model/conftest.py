"""Small models for the tests of this folder; nothing here is fetched."""

import json

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from clippy_core.model.config import ModelConfig, TextConfig, VisionConfig
from clippy_core.model.dual_encoder import DualEncoder
from clippy_core.model.presets import find
from clippy_core.model.weights import load_directory

WORDS = ["a", "photo", "of", "the", "dog", "grass", "sky", "castle", "red", "green", "on", "in", "two", "and", ".", ","]
WORDS += ["##s", "##ly", "un", "##usual", "quick"]
VOCABULARY = {token: number for number, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS])}

BERT = {
    "model_type": "bert",
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "vocab_size": len(VOCABULARY),
    "max_position_embeddings": 64,
}
T5 = {
    "model_type": "t5",
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 48,
    "num_layers": 2,
    "num_heads": 4,
    "vocab_size": len(VOCABULARY),
}


def disturb(module, seed=0):
    """Add noise to every floating-point parameter and buffer, so that no layer is an identity by its initialisation.

    Matrices get little, so that features stay of the order of 1 and an absolute tolerance means something.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in [*module.named_parameters(), *module.named_buffers()]:
            if value.is_floating_point():
                scale = 0.1 if value.ndim < 2 else 0.2 * max(float(value.std()), 0.02)
                noise = torch.randn(value.shape, generator=generator) * scale
                value.add_(noise.abs() if "running_var" in name else noise)
    return module


@pytest.fixture(scope="session", name="disturb")
def _disturb():
    """The function above, for tests."""
    return disturb


@pytest.fixture(scope="session")
def encoders():
    """Configurations of small text encoders, by kind."""
    common = {key: value for key, value in BERT.items() if key != "model_type"}
    return {
        "bert": BERT,
        "t5": T5,
        "mpnet": {"model_type": "mpnet", **common},
        "distilbert": {
            "model_type": "distilbert",
            "dim": 32,
            "n_layers": 2,
            "n_heads": 4,
            "hidden_dim": 64,
            "vocab_size": len(VOCABULARY),
            "max_position_embeddings": 64,
        },
    }


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """Small tensors on a busy machine: threads that wait for each other take many times longer than one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def tokenizer_json():
    """A WordPiece tokenizer with BERT's special tokens, as the bytes of ``tokenizer.json``."""
    tokenizer = Tokenizer(models.WordPiece(VOCABULARY, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return json.dumps(json.loads(tokenizer.to_str())).encode()


@pytest.fixture(scope="session")
def tiny_config():
    """A dual encoder of half a million parameters: a CNN with batch norm and a BERT of two layers."""
    return ModelConfig(
        "tiny",
        VisionConfig("test_efficientnet", size=64, projection=24),
        TextConfig(BERT, projection=24, max_tokens=16),
        templates=("{}", "a photo of a {}."),
        description="for tests",
        licence="Apache-2.0",
    )


@pytest.fixture
def tiny_model(tiny_config):
    """The model of ``tiny_config`` with random weights and statistics, in evaluation mode."""
    torch.manual_seed(0)
    return disturb(DualEncoder(tiny_config)).eval()


@pytest.fixture(scope="session")
def bundled():
    """The model that ships inside the package."""
    return load_directory(find("clippy-lite"))
