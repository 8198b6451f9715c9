"""What is known about models without loading them."""

import json
import math
import shutil
import struct

import pytest
import torch

from clippy_core.errors import CheckpointError, DataError, UsageError
from clippy_core.model import catalogue as module
from clippy_core.model import presets
from clippy_core.model.catalogue import catalogue, count_parameters, describe
from clippy_core.model.directory import EXPORTED
from clippy_core.model.dual_encoder import DualEncoder
from clippy_core.model.presets import MODELS, Preset, find
from clippy_core.model.weights import STORAGES, save_directory
from clippy_core.registry import Entry


@pytest.fixture(scope="module")
def saved(tmp_path_factory, tiny_config, tokenizer_json):
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_directory(folder, DualEncoder(tiny_config), tokenizer_json, "# tiny\n")
    return folder


def test_every_registered_model_is_listed_with_the_bundled_one_on_disk():
    cards = {card["name"]: card for card in catalogue()}
    assert cards.keys() == set(MODELS.names())
    card = cards["clippy-lite"]
    assert card["on_disk"]
    assert card["error"] is None
    assert card["licence"] == "Apache-2.0"
    assert card["package"] == "clippy-vlm"
    assert card["description"]
    assert card["bytes"] == sum(path.stat().st_size for path in find("clippy-lite").iterdir())


def test_everything_known_about_the_bundled_model(bundled):
    card = describe("clippy-lite")
    config = bundled.model.config
    assert card["name"] == "clippy-lite"
    assert card["parameters"] == sum(parameter.numel() for parameter in bundled.model.parameters())
    assert card["image_tower"] == config.vision.backbone
    assert card["text_tower"] == "bert"
    assert (card["pooling"], card["size"], tuple(card["templates"])) == ("max", config.vision.size, config.templates)
    json.dumps(card)


def test_a_directory_is_described_by_its_own_files(saved, tiny_config):
    card = describe(str(saved))
    assert card["name"] == "tiny"
    assert card["package"] == ""
    assert card["on_disk"]
    assert card["directory"] == card["source"] == str(saved)
    assert card["description"] == tiny_config.description


@pytest.mark.parametrize("sheet", EXPORTED)
def test_an_exported_model_is_on_disk_without_weights(saved, tmp_path, sheet):
    shutil.copyfile(saved / "config.json", tmp_path / "config.json")
    assert describe(str(tmp_path))["on_disk"] is False
    (tmp_path / sheet).write_text("{}")
    card = describe(str(tmp_path))
    assert (card["name"], card["on_disk"], card["parameters"]) == ("tiny", True, None)
    assert card["bytes"] == (tmp_path / "config.json").stat().st_size + 2


@pytest.mark.parametrize("storage", STORAGES)
def test_parameters_are_counted_from_the_header_alone(tmp_path, tiny_model, tokenizer_json, storage):
    save_directory(tmp_path / "m", tiny_model, tokenizer_json, "", storage=storage)
    expected = sum(parameter.numel() for parameter in tiny_model.parameters())
    assert count_parameters(tmp_path / "m" / "model.safetensors") == expected


def header(document):
    data = json.dumps(document).encode() if not isinstance(document, bytes) else document
    return struct.pack("<Q", len(data)) + data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"1234",
        b"<html>not a model</html>",
        struct.pack("<Q", 2**63),
        struct.pack("<Q", 2**64 - 1) + b"{}",
        struct.pack("<Q", 50) + b"{}",
        header(b"{"),
        header(b"\xff\xfe"),
        header([1, 2]),
        header({"w": 5}),
        header({"w": {"dtype": "F32"}}),
        header({"w": {"shape": [2, 2]}}),
        header({"w": {"dtype": "F32", "shape": 5}}),
        header({"w": {"dtype": "F32", "shape": ["x", {}]}}),
        None,
    ],
)
def test_damaged_weights_are_named_by_the_description(saved, tmp_path, data):
    folder = shutil.copytree(saved, tmp_path / "tiny")
    weights = folder / "model.safetensors"
    if data is None:
        weights.unlink()
        weights.symlink_to("model.safetensors")
        assert describe(str(folder))["on_disk"] is False
        return
    weights.write_bytes(data)
    with pytest.raises(CheckpointError, match="not a safetensors file") as caught:
        describe(str(folder))
    assert str(caught.value).startswith(f"{weights}: ")


def test_a_scale_or_statistic_is_no_parameter_but_a_parameter_called_scale_is(tmp_path):
    from safetensors.torch import save_file

    tensors = {
        "w.int8": torch.zeros(4, 3, dtype=torch.int8),
        "w.scale": torch.zeros(4, 1),
        "norm.scale": torch.zeros(5),
        "norm.running_mean": torch.zeros(7),
        "norm.running_var": torch.zeros(7),
        "norm.num_batches_tracked": torch.zeros((), dtype=torch.int64),
        "number": torch.zeros(()),
    }
    save_file(tensors, tmp_path / "m.safetensors", metadata={"format": "pt"})
    assert count_parameters(tmp_path / "m.safetensors") == math.prod((4, 3)) + 5 + 1


def test_a_model_without_weights_on_this_machine_is_listed_as_such(monkeypatch, tiny_config, tmp_path):
    monkeypatch.setattr(module, "get_preset", lambda name: Preset(tiny_config, None, "somewhere"))
    assert {(card["on_disk"], card["bytes"], card["error"]) for card in catalogue()} == {(False, 0, None)}
    monkeypatch.setattr(module, "get_preset", lambda name: Preset(tiny_config, tmp_path / "gone", "somewhere"))
    assert {(card["on_disk"], card["bytes"], card["error"]) for card in catalogue()} == {(False, 0, None)}


class OneModel:
    """A registry with one entry, whose function is given."""

    def __init__(self, make, source="their-package"):
        self._claim = Entry("theirs", "their:model", source)
        self._make = make

    def __iter__(self):
        return iter([self._claim])

    def __contains__(self, name):
        return name == "theirs"

    def entry(self, name):
        make, source = self._make, self._claim.source

        class Loaded:
            def load(self):
                return make

        Loaded.source = source
        return Loaded()


def test_a_preset_without_weights_says_how_large_it_is_and_where_training_starts():
    card = describe("clippy-B-16-paper")
    assert (card["on_disk"], card["bytes"], card["parameters"]) == (False, 0, 196_017_025)
    assert card["image_tower_starts_from"] == "timm:vit_base_patch16_224.dino"
    assert card["text_tower_starts_from"] == "hf:sentence-transformers/sentence-t5-base"
    assert describe("clippy-B-16")["weights"].endswith("clippy_5k.pt")
    listed = {card["name"]: card for card in catalogue()}["clippy-B-16"]
    assert (listed["parameters"], listed["size"]) == (196_017_025, 224)
    assert listed["source"]


def test_a_broken_model_of_another_package_is_listed_with_its_error(monkeypatch):
    def make():
        raise OSError("their disk is gone")

    for place in (module, presets):
        monkeypatch.setattr(place, "MODELS", OneModel(make))
    (card,) = catalogue()
    assert (card["name"], card["package"], card["on_disk"]) == ("theirs", "their-package", False)
    assert card["error"] == "model 'theirs' of package 'their-package' failed: OSError: their disk is gone"


def test_a_preset_of_another_package_with_nonsense_in_it_is_listed_with_its_error(monkeypatch):
    for place in (module, presets):
        monkeypatch.setattr(place, "MODELS", OneModel(lambda: Preset(None, None, "nowhere")))
    (card,) = catalogue()
    assert "model 'theirs' of package 'their-package' failed: " in card["error"]


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "cannot be read"), (b"{", "not JSON"), (b'{"name": 5}', "ModelConfig: ")],
)
def test_a_directory_without_a_configuration_is_no_model(tmp_path, content, message):
    if content is not None:
        (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as caught:
        describe(str(tmp_path))
    assert str(tmp_path) in str(caught.value)


def test_unknown_names_and_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="did you mean clippy-lite"):
        describe("clippy-light")
    with pytest.raises(DataError, match="no such model directory"):
        describe("nowhere/at/all")
