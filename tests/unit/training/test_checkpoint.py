"""Checkpoints are whole or not there; the latest whole one is found."""

import json
import os
import pickle
import shutil

import pytest
import torch

from clippy_core.errors import CheckpointError
from clippy_core.files import TEMPORARY_PREFIX
from clippy_core.model.weights import load_directory
from clippy_core.training import checkpoint


@pytest.fixture
def loaded(tiny_directory):
    return load_directory(tiny_directory)


@pytest.fixture
def write(loaded, tmp_path):
    def write(step, **state):
        tokenizer_json = loaded.tokenizer.path.read_bytes()
        return checkpoint.save(tmp_path, step, loaded.model, tokenizer_json, "# card\n", state)

    return write


def find(folder):
    problems = []
    return checkpoint.latest(folder, problems.append), problems


def test_a_checkpoint_is_a_model_with_a_state(write, loaded, tmp_path):
    path = write(12, numbers=torch.arange(3), progress={"step": 12})
    assert path == tmp_path / "step-00000012"
    found, problems = find(tmp_path)
    assert not problems
    assert found.path == path
    assert found.state["numbers"].tolist() == [0, 1, 2]
    again = load_directory(path).model.state_dict()
    for name, tensor in loaded.model.state_dict().items():
        assert torch.equal(again[name], tensor), name


def test_the_latest_step_wins_whatever_else_lies_there(write, tmp_path):
    for step in (9, 10, 100):
        write(step)
    (tmp_path / "tmp.pt").write_bytes(b"newer than all")
    (tmp_path / "step-99999999.part").mkdir()
    (tmp_path / "step-abc").mkdir()
    (tmp_path / "step-00000200").write_bytes(b"a file")
    (tmp_path / f"{TEMPORARY_PREFIX}123").mkdir()
    os.utime(tmp_path / "step-00000009")
    found, problems = find(tmp_path)
    assert (found.path.name, problems) == ("step-00000100", [])
    assert [checkpoint.step_of(path) for path in checkpoint.listed(tmp_path)] == [100, 10, 9]


@pytest.mark.parametrize("name", ["model.safetensors", "trainer.pt", "config.json", "tokenizer.json", "manifest.json"])
@pytest.mark.parametrize("harm", ["truncated", "flipped", "missing"])
def test_a_damaged_one_is_named_and_the_one_before_it_is_taken(write, tmp_path, name, harm):
    write(1)
    file = write(2, numbers=torch.arange(100)) / name
    data = bytearray(file.read_bytes())
    if harm == "missing":
        file.unlink()
    else:
        data[len(data) // 2] ^= 0x10
        file.write_bytes(data[: len(data) // 2] if harm == "truncated" else data)
    found, problems = find(tmp_path)
    assert found.path.name == "step-00000001"
    assert len(problems) == 1
    assert str(file.parent) in problems[0]
    assert "falling back" in problems[0]


def test_none_that_is_whole_is_an_error(write, tmp_path):
    shutil.rmtree(write(1))
    assert find(tmp_path) == (None, [])
    (write(2) / "trainer.pt").write_bytes(b"")
    with pytest.raises(CheckpointError, match="none of 1 checkpoints can be used"):
        find(tmp_path)


def with_manifest_of(path):
    """Make the manifest fit what lies there, as somebody who means harm would."""
    import hashlib

    document = json.loads((path / "manifest.json").read_text())
    data = (path / "trainer.pt").read_bytes()
    document["files"]["trainer.pt"] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (path / "manifest.json").write_text(json.dumps(document))


class Harm:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_a_state_with_code_in_it_is_refused_and_nothing_runs(write, tmp_path):
    path = write(1)
    mark = str(tmp_path / "ran")
    for data in (pickle.dumps({"format": 1, "x": Harm(mark)}), b"rubbish"):
        (path / "trainer.pt").write_bytes(data)
        with_manifest_of(path)
        with pytest.raises(CheckpointError, match="not the state of a run"):
            checkpoint.read(path)
    torch.save({"format": 1, "x": Harm(mark)}, path / "trainer.pt")
    with_manifest_of(path)
    with pytest.raises(CheckpointError, match="not the state of a run"):
        checkpoint.read(path)
    assert not os.path.exists(mark)  # noqa: PTH110


def test_a_later_format_and_a_mere_model_are_refused(write, tiny_directory):
    path = write(1)
    torch.save({"format": 99}, path / "trainer.pt")
    with_manifest_of(path)
    with pytest.raises(CheckpointError, match="of format 1"):
        checkpoint.read(path)
    with pytest.raises(CheckpointError, match="not the checkpoint of a run"):
        checkpoint.read(tiny_directory)
    with pytest.raises(CheckpointError, match="no such checkpoint directory"):
        checkpoint.read(path / "elsewhere")


def test_pruning_keeps_the_latest_and_the_best_and_clears_leftovers(write, tmp_path):
    for step in range(1, 7):
        write(step)
    leftover = tmp_path / f"{TEMPORARY_PREFIX}abc"
    leftover.mkdir()
    (leftover / "model.safetensors").write_bytes(b"half")
    (tmp_path / f"{TEMPORARY_PREFIX}def").write_bytes(b"half")
    checkpoint.name_best(tmp_path, 2, "shapes/mIoU", 0.5)
    checkpoint.prune(tmp_path, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "best.json", "step-00000002", "step-00000005", "step-00000006",
    ]  # fmt: skip
    assert checkpoint.best_of(tmp_path) == {"step": 2, "metric": "shapes/mIoU", "value": 0.5}


def test_a_full_disk_leaves_what_was_there(write, tmp_path, monkeypatch):
    write(1)

    def full(*_args, **_more):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_directory", full)
    with pytest.raises(OSError, match="No space left"):
        write(2)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]
    assert find(tmp_path)[0].path.name == "step-00000001"


def test_a_checkpoint_is_written_again_over_a_damaged_one(write, tmp_path):
    path = write(3)
    (path / "trainer.pt").write_bytes(b"")
    assert write(3, again=True) == path
    assert find(tmp_path)[0].state["again"] is True
