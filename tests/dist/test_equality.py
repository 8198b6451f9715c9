"""Several processes with parts of a batch are one process with all of it."""

import json

import pytest
import torch

from clippy_core.model.weights import load_directory
from clippy_core.training.anchors import write_anchors

RUN = ["run.steps=20", "data.samples=160", "run.save_every=20", "optim.lr=0.003", "optim.warmup=2"]


def losses(folder):
    return [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("loss", ["infonce", "siglip"])
def test_half_the_batch_each_is_the_whole_batch(attempts, tmp_path, loss):
    common = [*RUN, f"loss.kind={loss}"]
    plans = {
        "one": {"set": [*common, "run.batch_size=16"]},
        "two": {"set": [*common, "run.batch_size=8"], "processes": 2},
        "accumulated": {"set": [*common, "run.batch_size=4", "run.accumulate=4"]},
        "both": {"set": [*common, "run.batch_size=4", "run.accumulate=2"], "processes": 2},
    }
    codes = attempts(*({**plan, "set": [*plan["set"], f"run.name={name}"]} for name, plan in plans.items()))
    assert codes == [[0], [0, 0], [0], [0, 0]]
    expected = losses(tmp_path / "one")
    weights = load_directory(tmp_path / "one" / "model").model.state_dict()
    assert expected[-1] < expected[0]
    for name in ("two", "accumulated", "both"):
        assert losses(tmp_path / name) == pytest.approx(expected, abs=1e-5, rel=1e-5), name
        for key, tensor in load_directory(tmp_path / name / "model").model.state_dict().items():
            torch.testing.assert_close(tensor, weights[key], rtol=1e-5, atol=1e-5, msg=f"{name}: {key}")


def test_without_the_cache_parts_contrast_among_themselves(attempts, tmp_path):
    """The mean of the parts' losses, which is another (and smaller) number than that of the whole."""
    common = [*RUN, "run.steps=3", "run.grad_cache=false"]
    codes = attempts(
        {"set": [*common, "run.name=one", "run.batch_size=8", "run.accumulate=2"]},
        {"set": [*common, "run.name=two", "run.batch_size=4", "run.accumulate=2"], "processes": 2},
        {"set": [*common, "run.name=whole", "run.batch_size=16"]},
    )
    assert codes == [[0], [0, 0], [0]]
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-5)
    assert losses(tmp_path / "one")[0] < losses(tmp_path / "whole")[0] - 0.3


def test_anchors_weigh_the_same_however_the_batch_is_shared(attempts, tmp_path, tiny_directory):
    """Every process adds the whole anchor loss, and the mean over processes is that loss once."""
    width = load_directory(tiny_directory).model.text.width
    texts = ["a red circle", "a blue square", "green grass", "a yellow triangle"]
    write_anchors(tmp_path / "anchors.safetensors", texts, torch.randn(4, width))
    common = [*RUN, "run.steps=6", "loss.anchor_batch=3"]
    with_anchors = [*common, f"loss.anchors='{tmp_path / 'anchors.safetensors'}'"]
    codes = attempts(
        {"set": [*with_anchors, "run.name=one", "run.batch_size=16"]},
        {"set": [*with_anchors, "run.name=two", "run.batch_size=8"], "processes": 2},
        {"set": [*common, "run.name=without", "run.batch_size=16"]},
    )
    assert codes == [[0], [0, 0], [0]]
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), abs=1e-5, rel=1e-5)
    assert losses(tmp_path / "one")[0] > losses(tmp_path / "without")[0] + 0.1
    weights = load_directory(tmp_path / "one" / "model").model.state_dict()
    for key, tensor in load_directory(tmp_path / "two" / "model").model.state_dict().items():
        torch.testing.assert_close(tensor, weights[key], rtol=1e-5, atol=1e-5, msg=key)
