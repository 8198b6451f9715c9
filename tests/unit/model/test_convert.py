"""Checkpoints of others give what the libraries that define them give."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import T5Config, T5EncoderModel

import clippy_core
from clippy_cli.main import run
from clippy_core.errors import CheckpointError
from clippy_core.model.config import ModelConfig, TextConfig, VisionConfig
from clippy_core.model.convert import convert, read_checkpoint
from clippy_core.model.dual_encoder import DualEncoder
from clippy_core.model.families import T5_BASE, clippy_b_16
from clippy_core.model.presets import MODELS
from clippy_core.model.weights import assign, build

PUBLISHED_PARAMETERS = {
    # image tower (timm's results tables, without classifier), text encoder (model cards), in millions
    "clippy-lite": (4.82e6, 22.57e6),
    "clippy-B-16": (85.8e6, 109.6e6),
    "clippy-B-16-paper": (85.8e6, 109.6e6),
    "clippy-S-16": (21.67e6, 109.6e6),
    "clippy-B-14-dinov2": (86.58e6, 109.6e6),
    "clippy-B-16-dinov3": (85.66e6, 109.6e6),
    "clippy-micro": (0.217e6, 4.11e6),
}
SMALL_T5 = {**T5_BASE, "vocab_size": 99, "d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4}
SMALL_VIT = {"embed_dim": 64, "depth": 2, "num_heads": 4, "img_size": 64}
SMALL = ModelConfig(
    "small",
    VisionConfig("vit_base_patch16_224", size=64, pool_prefix=True, trunk_args=SMALL_VIT),
    TextConfig(SMALL_T5, dense=64),
)


class Published:
    """The published model put together by hand from timm, transformers and torch."""

    def __init__(self, config: ModelConfig):
        torch.manual_seed(0)
        self.trunk = timm.create_model(
            "vit_base_patch16_224", num_classes=0, dynamic_img_size=True, **config.vision.trunk_args
        ).eval()
        arguments = {key: value for key, value in config.text.encoder.items() if key != "model_type"}
        self.t5 = T5EncoderModel(T5Config(**arguments)).eval()
        self.dense = nn.Linear(self.t5.config.d_model, config.text.dense or 0, bias=False)
        self.logit_scale = torch.tensor(3.21)

    def state(self) -> dict[str, Tensor]:
        state = {"logit_scale": self.logit_scale}
        state |= {f"visual.trunk.{key}": value for key, value in self.trunk.state_dict().items()}
        state |= {f"text.0.auto_model.{key}": value for key, value in self.t5.state_dict().items()}
        state["text.0.auto_model.encoder.embed_tokens.weight"] = self.t5.shared.weight.detach()
        state["text.2.linear.weight"] = self.dense.weight.detach()
        return state

    @torch.inference_mode()
    def image(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        tokens = self.trunk.forward_features(pixels)
        return F.normalize(tokens.amax(1), dim=-1), F.normalize(tokens[:, 1:], dim=-1)

    @torch.inference_mode()
    def text(self, ids: Tensor, mask: Tensor) -> Tensor:
        states = self.t5(input_ids=ids, attention_mask=mask).last_hidden_state
        mean = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        return F.normalize(self.dense(mean), dim=-1)


WRAPPERS = {
    "bare": lambda state: state,
    "state_dict": lambda state: {"epoch": 5, "state_dict": state, "optimizer": {"lr": 0.1}},
    "module": lambda state: {"state_dict": {f"module.{key}": value for key, value in state.items()}},
    "compiled": lambda state: {f"_orig_mod.{key}": value for key, value in state.items()},
}


@pytest.mark.parametrize(
    ("config", "wrap"),
    [
        *(pytest.param(SMALL, wrap, id=f"small-{wrap}") for wrap in WRAPPERS),
        pytest.param(clippy_b_16().config, "module", id="full-size", marks=pytest.mark.slow),
    ],
)
def test_published_layout_gives_what_its_libraries_give(config: ModelConfig, wrap: str, tmp_path: Path):
    published = Published(config)
    torch.save(WRAPPERS[wrap](published.state()), tmp_path / "checkpoint.pt")
    model = build(config)
    assign(model, convert(read_checkpoint(tmp_path / "checkpoint.pt"), "checkpoint.pt"), "checkpoint.pt")
    model.eval()
    size = config.vision.size
    pixels = torch.randn(2, 3, size, size + 32)
    ids = torch.randint(3, config.text.encoder["vocab_size"], (3, 9))
    mask = torch.tensor([[1] * 9, [1] * 5 + [0] * 4, [1] * 2 + [0] * 7])
    with torch.inference_mode():
        image = model.encode_image(pixels)
        text = model.encode_text(ids, mask)
    pooled, patches = published.image(pixels)
    assert (image.pooled_BD - pooled).abs().max() <= 1e-5
    assert (image.patches_BPD - patches).abs().max() <= 1e-5
    assert (text - published.text(ids, mask)).abs().max() <= 1e-5
    assert model.logit_scale.item() == pytest.approx(3.21)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("visual.trunk.norm.weight"), "misses vision.trunk.norm.weight"),
        (lambda state: state.update({"visual.trunk.extra": torch.ones(1)}), "has an unknown vision.trunk.extra"),
        (lambda state: state.update({"visual.head.weight": torch.ones(1)}), "'visual.head.weight' has no place"),
        (
            lambda state: state.update({"text.2.linear.weight": torch.ones(3, 3)}),
            r"has text.dense.weight of shape \[3, 3\] instead of \[64, 64\]",
        ),
        (
            lambda state: state.update({"text.0.auto_model.encoder.embed_tokens.weight": torch.zeros(99, 64)}),
            "should be one tensor but differ",
        ),
    ],
)
def test_wrong_keys_are_one_line_that_names_them(change, message: str):
    state = Published(SMALL).state()
    change(state)
    with pytest.raises(CheckpointError, match=message) as caught:
        assign(build(SMALL), convert(state, "x.pt"), "x.pt")
    assert "\n" not in str(caught.value)


def test_open_clip_layout_is_renamed():
    state = {
        "visual.trunk.norm.weight": torch.ones(2),
        "visual.head.proj.weight": torch.ones(3, 2),
        "text.transformer.encoder.layer.0.x": torch.ones(1),
        "text.transformer.embeddings.position_ids": torch.arange(3),
        "text.proj.weight": torch.ones(3, 4),
        "logit_scale": torch.tensor(1.0),
    }
    assert sorted(convert(state, "x")) == [
        "logit_scale",
        "text.encoder.encoder.layer.0.x",
        "text.projection.weight",
        "vision.projection.weight",
        "vision.trunk.norm.weight",
    ]


def test_unknown_layout_names_what_it_saw():
    with pytest.raises(CheckpointError, match=r"unknown layout \(its first keys: conv.weight\)"):
        convert({"conv.weight": torch.ones(1)}, "x.pt")


class Malicious:
    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("kind", ["pickle", "torch"])
def test_malicious_pickle_is_refused_and_nothing_runs(kind: str, tmp_path: Path):
    victim, file = tmp_path / "victim", tmp_path / "evil.pt"
    payload = {"state_dict": {"visual.trunk.x": torch.ones(1)}, "evil": Malicious(victim)}
    if kind == "torch":
        torch.save(payload, file)
    else:
        file.write_bytes(pickle.dumps({"evil": Malicious(victim)}, protocol=2))
    with pytest.raises(CheckpointError, match="nothing in it was run") as caught:
        read_checkpoint(file)
    assert "\n" not in str(caught.value)
    assert not victim.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a readable checkpoint"),
        (b"<!DOCTYPE html><html></html>", "not a readable|refused"),
        (b"PK\x03\x04 half a zip", "not a readable checkpoint"),
    ],
)
def test_files_that_are_no_checkpoints(content: bytes, message: str, tmp_path: Path):
    file = tmp_path / "checkpoint.pt"
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as caught:
        read_checkpoint(file)
    assert "\n" not in str(caught.value)


def test_missing_file(tmp_path: Path):
    with pytest.raises(CheckpointError, match="no such checkpoint file"):
        read_checkpoint(tmp_path / "nothing.pt")


def flax_tree(config: ModelConfig, published: Published) -> dict:
    """The parameter tree of the JAX notebooks, written from the published model by Flax's own conventions."""
    vit = {key: value.numpy() for key, value in published.trunk.state_dict().items()}
    heads = config.vision.trunk_args["num_heads"]
    visual = {
        "class_embedding": vit["cls_token"][0, 0],
        "positional_embedding": vit["pos_embed"][0],
        "conv1": {"kernel": vit["patch_embed.proj.weight"].transpose(2, 3, 1, 0), "bias": vit["patch_embed.proj.bias"]},
        "ln_post": {"scale": vit["norm.weight"], "bias": vit["norm.bias"]},
        "transformer": {},
    }
    for index in range(config.vision.trunk_args["depth"]):
        block = {key.removeprefix(f"blocks.{index}."): value for key, value in vit.items() if f"blocks.{index}." in key}
        width = block["norm1.weight"].shape[0]
        weights = np.split(block["attn.qkv.weight"], 3)
        biases = np.split(block["attn.qkv.bias"], 3)
        attention = {
            name: {"kernel": weight.T.reshape(width, heads, -1), "bias": bias.reshape(heads, -1)}
            for name, weight, bias in zip(("query", "key", "value"), weights, biases, strict=True)
        }
        attention["out"] = {
            "kernel": block["attn.proj.weight"].T.reshape(heads, -1, width),
            "bias": block["attn.proj.bias"],
        }
        visual["transformer"][f"resblocks.{index}"] = {
            "ln_1": {"scale": block["norm1.weight"], "bias": block["norm1.bias"]},
            "ln_2": {"scale": block["norm2.weight"], "bias": block["norm2.bias"]},
            "attn": attention,
            "mlp": {
                "c_fc": {"kernel": block["mlp.fc1.weight"].T, "bias": block["mlp.fc1.bias"]},
                "c_proj": {"kernel": block["mlp.fc2.weight"].T, "bias": block["mlp.fc2.bias"]},
            },
        }
    text: dict = {}
    for key, value in published.t5.state_dict().items():
        if key == "encoder.embed_tokens.weight":
            continue
        *path, _ = key.split(".")
        embedding = "shared" in path or "relative_attention_bias" in path
        linear = value.ndim == 2 and not embedding
        leaf = {"kernel": value.T.numpy()} if linear else {"embedding" if embedding else "weight": value.numpy()}
        node = text
        for name in path:
            node = node.setdefault(name, {})
        node.update(leaf)
    dense = {"kernel": published.dense.weight.detach().T.numpy()}
    return {
        "params": {"visual": visual, "text": {"transformer": text, "dense": dense}, "logit_scale": np.float32(3.21)}
    }


def as_tensors(tree: dict) -> dict:
    return {
        key: as_tensors(value) if isinstance(value, dict) else torch.from_numpy(np.array(value))
        for key, value in tree.items()
    }


def test_flax_tree_gives_the_same_weights_as_the_published_layout(tmp_path: Path):
    published = Published(SMALL)
    torch.save(as_tensors(flax_tree(SMALL, published)), tmp_path / "flax.pt")
    from_flax = convert(read_checkpoint(tmp_path / "flax.pt"), "flax.pt")
    expected = convert(published.state(), "published.pt")
    assert sorted(from_flax) == sorted(expected)
    for key, value in expected.items():
        torch.testing.assert_close(from_flax[key], value, rtol=0, atol=1e-6)


@pytest.mark.slow
def test_segment_with_a_published_checkpoint_end_to_end(tmp_path: Path):
    unigram = models.Unigram(
        [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((letter, -3.0) for letter in "▁abcdeghoprst")], 2
    )
    tokenizer = Tokenizer(unigram)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    torch.save({"state_dict": Published(clippy_b_16().config).state(), "epoch": 1}, tmp_path / "clippy_5k.pt")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (240, 320, 3), np.uint8)).save(tmp_path / "photo.png")
    arguments = [
        "--model",
        "clippy-B-16",
        "--checkpoint",
        str(tmp_path / "clippy_5k.pt"),
        "--out",
        str(tmp_path / "out"),
    ]
    assert run(["segment", str(tmp_path / "photo.png"), "--labels", "dog,grass", *arguments]) == 0
    with Image.open(tmp_path / "out" / "photo.labels.png") as labels:
        assert labels.size == (320, 240)
    assert set(np.unique(np.array(Image.open(tmp_path / "out" / "photo.labels.png")))) <= {0, 1}
    assert run(["export", "safetensors", *arguments[:4], "--out", str(tmp_path / "model")]) == 0
    again = clippy_core.load(tmp_path / "model").segment(tmp_path / "photo.png", ["dog", "grass"])
    assert np.array_equal(again.label_map, np.array(Image.open(tmp_path / "out" / "photo.labels.png")))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the kernel has to tell the peak of a part of a process")
@pytest.mark.parametrize("kind", ["pickle", "legacy"])
def test_converting_takes_less_than_2_2_times_the_file(kind: str):
    """A file of the published size, read and written by a process of its own."""
    script = Path(clippy_core.__file__).parents[1] / "benchmarks" / "convert_memory.py"
    command = [sys.executable, str(script), "--kinds", kind, "--json"]
    (row,) = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    assert row["file_mb"] > 780
    assert row["factor"] < 2.2


def test_a_model_without_weights_says_where_to_get_them(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    Image.new("RGB", (64, 64)).save(tmp_path / "photo.png")
    assert run(["segment", str(tmp_path / "photo.png"), "--labels", "dog", "--model", "clippy-B-16"]) == 4
    error = capsys.readouterr().err
    assert "clippy_5k.pt" in error
    assert "--checkpoint FILE" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("name", [name for name in MODELS.names() if name.startswith("clippy-")])
def test_every_preset_builds_with_the_number_of_parameters_its_source_publishes(name: str):
    preset = MODELS.load(name)()
    with torch.device("meta"):
        model = DualEncoder(preset.config)
    counted = sum(parameter.numel() for parameter in model.vision.trunk.parameters())
    text = sum(parameter.numel() for parameter in model.text.encoder.parameters())
    trunk_expected, text_expected = PUBLISHED_PARAMETERS[name]
    assert counted == pytest.approx(trunk_expected, rel=0.005)
    assert text == pytest.approx(text_expected, rel=0.005)
    assert preset.parameters in (None, sum(parameter.numel() for parameter in model.parameters()))
    assert preset.parameters or preset.directory
