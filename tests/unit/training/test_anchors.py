import pytest
import torch
from torch.nn import functional as F

from clippy_core.errors import ConfigError, DataError
from clippy_core.training.anchors import Anchors, write_anchors
from clippy_core.training.config import LossConfig, StartConfig, TrainConfig
from clippy_core.training.start import start_model

TEXTS = ["a red circle", "a blue square", "green grass", "a long sentence about a yellow triangle on water"]


@pytest.fixture(scope="module")
def loaded():
    return start_model(StartConfig("clippy-micro"), LossConfig(), 0)


def anchors_of(tmp_path, loaded, directions, batch=4):
    path = tmp_path / "anchors.safetensors"
    write_anchors(path, TEXTS, directions)
    return Anchors(path, loaded.tokenizer, loaded.model.text.width, batch, torch.device("cpu"))


def test_the_loss_is_the_cross_entropy_of_finding_each_direction(tmp_path, loaded):
    torch.manual_seed(1)
    directions = torch.randn(4, loaded.model.text.width)
    found = anchors_of(tmp_path, loaded, directions).loss(loaded.model, seed=3, scale=7.0)
    ids, mask = (torch.from_numpy(array) for array in loaded.tokenizer(TEXTS))
    logits = 7 * F.normalize(loaded.model.text(ids, mask), dim=1) @ F.normalize(directions, dim=1).T
    by_hand = (logits.exp().sum(1).log() - logits.diagonal()).mean()
    assert found.requires_grad
    torch.testing.assert_close(found, by_hand, rtol=1e-4, atol=1e-5)


def test_a_seed_draws_the_same_anchors_again_and_another_seed_others(tmp_path, loaded):
    anchors = anchors_of(tmp_path, loaded, torch.randn(4, loaded.model.text.width), batch=2)
    losses = [anchors.loss(loaded.model, seed, 10.0).item() for seed in range(6)]
    assert losses == [anchors.loss(loaded.model, seed, 10.0).item() for seed in range(6)]
    assert len(set(losses)) > 1


def test_a_file_that_is_none_or_of_another_width_is_named(tmp_path, loaded):
    with pytest.raises(DataError, match=r"directions of shape \(4, 3\) for 4 texts"):
        anchors_of(tmp_path, loaded, torch.randn(4, 3))
    (tmp_path / "bad").write_bytes(b"no")
    with pytest.raises(DataError, match="bad is not a file of anchors"):
        Anchors(tmp_path / "bad", loaded.tokenizer, 3, 4, torch.device("cpu"))
    with pytest.raises(DataError, match="nothing is not a file of anchors"):
        Anchors(tmp_path / "nothing", loaded.tokenizer, 3, 4, torch.device("cpu"))


def test_anchors_and_a_loss_over_cached_parts_exclude_each_other():
    with pytest.raises(ConfigError, match=r"run\.grad_cache = false"):
        TrainConfig(loss={"anchors": "x"}, run={"accumulate": 2})  # type: ignore[arg-type]
    TrainConfig(loss={"anchors": "x"}, run={"accumulate": 2, "grad_cache": False})  # type: ignore[arg-type]
