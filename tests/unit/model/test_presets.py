"""The models that can be asked for by name: each builds and can be trained; the bundled one is whole and works."""

import dataclasses
import re

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from clippy_core.errors import ConfigError, DataError, PluginError, UsageError
from clippy_core.model import presets
from clippy_core.model.config import ModelConfig, TextConfig, VisionConfig
from clippy_core.model.directory import verify
from clippy_core.model.dual_encoder import DualEncoder
from clippy_core.model.presets import BUNDLED, MODELS, Preset, find, get_preset
from clippy_core.model.text import unit
from clippy_core.model.weights import build, load_directory
from clippy_core.registry import OWN_DISTRIBUTION, Registry

OWN = [entry.name for entry in MODELS if entry.source == OWN_DISTRIBUTION]


def shortened(config):
    """The same towers with two layers each, where the number of layers can be set."""
    encoder = dict(config.text.encoder)
    for name in ("num_layers", "num_hidden_layers", "n_layers"):
        if name in encoder:
            encoder[name] = 2
    trunk_args = dict(config.vision.trunk_args)
    if config.vision.backbone.startswith(("vit_", "eva")):
        trunk_args["depth"] = 2
    vision = dataclasses.replace(config.vision, trunk_args=trunk_args)
    return dataclasses.replace(config, vision=vision, text=dataclasses.replace(config.text, encoder=encoder))


def contrastive_step(model, batch=4):
    """Gradients of the symmetric contrastive loss on random pictures and texts."""
    generator = torch.Generator().manual_seed(0)
    stride = model.vision.stride
    pixels = torch.randn(batch, 3, 2 * stride, 3 * stride, generator=generator)
    words = int(model.text.encoder.config.vocab_size)
    ids_BL = torch.randint(5, words, (batch, 6), generator=generator)
    mask_BL = (torch.arange(6) < torch.tensor([6, 4, 6, 5])[:batch, None]).long()
    image, text, scale = model(pixels, ids_BL, mask_BL)
    logits = scale * image @ text.T
    target = torch.arange(batch)
    loss = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    loss.backward()
    return loss


@pytest.mark.parametrize("name", OWN)
def test_every_preset_builds_at_its_full_size(name):
    config = get_preset(name).config
    model = build(config)
    assert config.name
    assert config.description
    assert model.vision.width == model.text.width
    assert model.config.text.max_tokens <= getattr(model.text.encoder.config, "max_position_embeddings", 10**9)


@pytest.mark.parametrize(
    ("name", "full_size"),
    [
        *(pytest.param(name, False, id=name) for name in OWN),
        pytest.param("clippy-B-16", True, id="clippy-B-16-full-size", marks=pytest.mark.slow),
        pytest.param("clippy-B-16-dinov3", True, id="clippy-B-16-dinov3-full-size", marks=pytest.mark.slow),
    ],
)
def test_a_preset_trains_one_step_with_a_gradient_on_every_parameter(name, full_size):
    torch.manual_seed(0)
    config = get_preset(name).config
    model = DualEncoder(config if full_size else shortened(config)).train()
    loss = contrastive_step(model)
    assert torch.isfinite(loss)
    gradients = {key: parameter.grad for key, parameter in model.named_parameters()}
    assert [key for key, gradient in gradients.items() if gradient is None] == []
    assert [key for key, gradient in gradients.items() if not torch.isfinite(gradient).all()] == []
    # A bias before a softmax over locations or before batch norm cancels out up to rounding; all others count.
    without = [key for key, gradient in gradients.items() if not gradient.any()]
    assert [key for key in without if not key.endswith("bias")] == []
    torch.optim.SGD(model.parameters(), lr=1e-3).step()
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())


def test_the_gradient_of_the_logit_scale_is_that_of_the_loss(tiny_model):
    contrastive_step(tiny_model)
    gradient = tiny_model.logit_scale.grad.item()
    step = 1e-2
    losses = []
    for change in (step, -step):
        with torch.no_grad():
            tiny_model.logit_scale.add_(change)
        losses.append(contrastive_step(tiny_model).item())
        with torch.no_grad():
            tiny_model.logit_scale.sub_(change)
    assert gradient == pytest.approx((losses[0] - losses[1]) / (2 * step), rel=1e-2, abs=1e-4)


def test_the_factor_on_cosines_starts_as_configured_and_stops_at_100(tiny_model):
    arguments = torch.zeros(1, 3, 32, 32), torch.tensor([[2, 3]]), torch.tensor([[1, 1]])
    with torch.no_grad():
        assert DualEncoder(tiny_model.config).eval()(*arguments)[2].item() == pytest.approx(1 / 0.07)
        tiny_model.logit_scale.fill_(50)
        assert tiny_model(*arguments)[2].item() == 100


def test_embeddings_have_length_one_and_pooling_is_the_maximum_over_locations(tiny_model):
    with torch.no_grad():
        pixels = torch.randn(2, 3, 64, 96)
        image = tiny_model.encode_image(pixels)
        text = tiny_model.encode_text(torch.tensor([[2, 9, 3]]), torch.ones(1, 3, dtype=torch.int64))
        features = tiny_model.vision(pixels)
    for embeddings in (image.pooled_BD, image.patches_BPD, text):
        torch.testing.assert_close(embeddings.norm(dim=-1), torch.ones(embeddings.shape[:-1]))
    torch.testing.assert_close(image.pooled_BD, unit(features.patches_BPD.amax(dim=1)))
    assert image.grid == (64 // tiny_model.vision.stride, 96 // tiny_model.vision.stride)


def test_towers_that_do_not_meet_are_refused(encoders):
    with pytest.raises(ConfigError, match=r"towers of 'm' do not meet: image embeddings have 64 channels, text .* 32;"):
        DualEncoder(ModelConfig("m", VisionConfig("test_vit"), TextConfig(encoders["bert"])))


# --- the bundled model ------------------------------------------------------------------------------------------


def bundled_files():
    return {path.name: path for path in (BUNDLED / "clippy-lite").iterdir()}


def test_the_bundled_model_is_whole_and_small():
    files = bundled_files()
    assert files.keys() == {"README.md", "config.json", "manifest.json", "model.safetensors", "tokenizer.json"}
    assert sum(path.stat().st_size for path in files.values()) < 45_000_000
    verify(BUNDLED / "clippy-lite")


def test_the_bundled_model_loads_with_its_own_configuration(bundled):
    preset = get_preset("clippy-lite")
    assert find("clippy-lite") == preset.directory
    assert bundled.model.config == preset.config
    assert preset.config.name == "clippy-lite"
    assert not bundled.model.training
    assert {parameter.dtype for parameter in bundled.model.parameters()} == {torch.float32}
    assert all(torch.isfinite(tensor).all() for tensor in bundled.model.state_dict().values())


def test_the_bundled_model_says_the_same_every_time(bundled):
    again = load_directory(find("clippy-lite"))
    pixels = torch.randn(1, 3, 128, 160, generator=torch.Generator().manual_seed(0))
    ids_BL, mask_BL = map(torch.from_numpy, bundled.tokenizer(["a photo of a dog.", "grass"]))
    with torch.no_grad():
        for first, second in [
            (bundled.model.encode_image(pixels), again.model.encode_image(pixels)),
            (bundled.model.encode_image(pixels), bundled.model.encode_image(pixels)),
        ]:
            assert torch.equal(first.pooled_BD, second.pooled_BD)
            assert torch.equal(first.patches_BPD, second.patches_BPD)
        assert torch.equal(bundled.model.encode_text(ids_BL, mask_BL), again.model.encode_text(ids_BL, mask_BL))


def test_the_bundled_models_words_keep_their_company(bundled):
    """Weights and tokenizer belong together: words of one kind are nearer to each other than to another kind."""
    kinds = [["dog", "puppy", "cat"], ["car", "truck", "bus"], ["apple", "banana", "orange"]]
    ids_BL, mask_BL = map(torch.from_numpy, bundled.tokenizer([word for kind in kinds for word in kind]))
    with torch.no_grad():
        embeddings = bundled.model.encode_text(ids_BL, mask_BL)
    cosines = (embeddings @ embeddings.T).reshape(3, 3, 3, 3).mean(dim=(1, 3)).numpy()
    assert (np.diag(cosines) > cosines + np.eye(3) * -9).all()
    assert (np.diag(cosines)[:, None] > cosines - 9 * np.eye(3)).all()


def test_the_bundled_models_card_says_what_it_is():
    card = bundled_files()["README.md"].read_text(encoding="utf-8")
    header = re.match(r"---\n(.*?)\n---\n", card, re.DOTALL)
    assert header
    assert "license: apache-2.0" in header[1]
    assert "library_name: clippy-vlm" in header[1]
    config = get_preset("clippy-lite").config
    assert config.licence == "Apache-2.0"
    assert config.quality in card


# --- names and places -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("clippy-lit", "did you mean clippy-lite"),
        ("Clippy-Lite", "did you mean clippy-lite"),
        ("clippylite", "did you mean clippy-lite"),
        ("xyzzy", "known: clippy-lite"),
    ],
)
def test_an_unknown_name_is_answered_with_near_ones(name, hint, tmp_path, monkeypatch):
    import clippy_core

    monkeypatch.chdir(tmp_path)
    for ask in (find, get_preset, clippy_core.load):
        with pytest.raises(UsageError, match=f"unknown model '{name}'; {hint}"):
            ask(name)


def test_a_directory_is_found_by_its_path_in_any_form(tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    assert find(tmp_path / "mine") == tmp_path / "mine"
    assert find(str(tmp_path / "mine")) == tmp_path / "mine"
    assert find("mine").resolve() == tmp_path / "mine"
    assert find("./mine").resolve() == tmp_path / "mine"


@pytest.mark.parametrize("path", ["", "there/is/nothing", "./nothing", "file.safetensors"])
def test_a_path_that_is_no_directory_is_named(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.safetensors").write_bytes(b"")
    with pytest.raises(DataError, match=f"^model '{re.escape(path)}': no such model directory$"):
        find(path)


class FakeEntry:
    """An entry of another package whose function is given."""

    source = "their-package"

    def __init__(self, make):
        self._make = make

    def load(self):
        return self._make


class FakeRegistry:
    """A registry with one name, ``theirs``."""

    def __init__(self, make):
        self._entry = FakeEntry(make)

    def __contains__(self, name):
        return name == "theirs"

    def entry(self, name):
        return self._entry


def fail(error):
    def make():
        raise error

    return make


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (
            fail(ZeroDivisionError("oh\nno")),
            PluginError,
            "model 'theirs' of package 'their-package' failed: Zero.*: oh",
        ),
        (lambda: {"name": "theirs"}, PluginError, "model 'theirs' of package 'their-package' is a dict, not a Preset"),
        (5, PluginError, "model 'theirs' of package 'their-package' failed: TypeError"),
        (fail(ConfigError("vision.size is 0")), ConfigError, "vision.size is 0"),
    ],
)
def test_a_model_of_another_package_that_fails_is_named(monkeypatch, make, kind, message):
    monkeypatch.setattr(presets, "MODELS", FakeRegistry(make))
    for ask in (find, get_preset):
        with pytest.raises(kind, match=message) as caught:
            ask("theirs")
        assert "\n" not in str(caught.value)


def test_a_model_of_another_package_is_found_or_its_weights_are_missed(monkeypatch, tmp_path, tiny_config):
    monkeypatch.setattr(presets, "MODELS", FakeRegistry(lambda: Preset(tiny_config, tmp_path, "their server")))
    assert find("theirs") == tmp_path
    monkeypatch.setattr(presets, "MODELS", FakeRegistry(lambda: Preset(tiny_config, None, "their server")))
    with pytest.raises(DataError, match="model 'theirs' has no weights on this machine"):
        find("theirs")


def test_a_failing_preset_of_our_own_is_not_blamed_on_the_user(monkeypatch):
    own = Registry("clippy.nothing", "model", {"ours": ("builtins:len", "")})
    monkeypatch.setattr(presets, "MODELS", own)
    with pytest.raises(TypeError, match="len"):
        get_preset("ours")
