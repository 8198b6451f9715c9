"""Equal models have equal fingerprints, whatever they are called; other weights, words or settings have others."""

import json
import shutil
from pathlib import Path

import pytest

from clippy_core.errors import CheckpointError, DataError, UsageError
from clippy_core.model.fingerprint import fingerprint
from clippy_core.model.presets import find


@pytest.fixture
def directory(tmp_path):
    """A copy of the bundled model's small files, with its manifest."""
    bundled = find("clippy-lite")
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("config.json", "manifest.json"):
        shutil.copy(bundled / name, folder / name)
    (folder / "model.safetensors").touch()
    return folder


def with_hash(directory, name, sha256):
    """Change what the manifest says of a file."""
    manifest = json.loads((directory / "manifest.json").read_text())
    manifest["files"][name]["sha256"] = sha256
    (directory / "manifest.json").write_text(json.dumps(manifest))


def test_a_model_is_the_same_under_every_name(directory, monkeypatch):
    monkeypatch.chdir(directory.parent)
    paths = ["model", "./model", directory, str(directory), f"{directory}/"]
    assert {fingerprint(path) for path in paths} == {fingerprint("clippy-lite")}


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_what_decides_the_outputs_tells_models_apart(directory, name):
    before = fingerprint(directory)
    with_hash(directory, name, "0" * 64)
    assert fingerprint(directory) != before


def test_the_card_does_not(directory):
    before = fingerprint(directory)
    with_hash(directory, "README.md", "0" * 64)
    assert fingerprint(directory) == before


def test_a_checkpoint_is_told_by_its_bytes_not_its_name(directory, tmp_path):
    first, copy, other = (tmp_path / name for name in ("first.pt", "copy.pt", "other.pt"))
    first.write_bytes(b"weights")
    copy.write_bytes(b"weights")
    other.write_bytes(b"weightz")
    assert fingerprint("clippy-lite", first) == fingerprint(directory, copy)
    assert len({fingerprint("clippy-lite", path) for path in (None, first, other, tmp_path / "gone.pt")}) == 4
    before = fingerprint("clippy-lite", first)
    (tmp_path / "tokenizer.json").write_text("{}")
    assert fingerprint("clippy-lite", first) != before


def test_an_exported_model_is_told_by_its_document_and_what_lies_beside(tmp_path):
    (tmp_path / "onnx.json").write_text("{}")
    before = fingerprint(tmp_path)
    for name in ("onnx.json", "config.json", "tokenizer.json"):
        (tmp_path / name).write_text('{"files": {}}')
        assert fingerprint(tmp_path) != before
        before = fingerprint(tmp_path)


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        ("clippy-light", UsageError, "clippy-lite"),
        ("gone/model", DataError, "gone/model"),
        (Path(), CheckpointError, "manifest.json: cannot be read"),
    ],
)
def test_what_is_no_model_is_said_at_once(tmp_path, monkeypatch, model, error, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        fingerprint(model)


def test_a_manifest_that_lists_no_weights_is_none(directory):
    (directory / "manifest.json").write_text('{"format": 1, "files": {"config.json": {"sha256": "0"}}}')
    with pytest.raises(CheckpointError, match=r"does not list 'model.safetensors' with its size and SHA-256"):
        fingerprint(directory)
