"""Groups, schedules, freezing."""

import itertools
import math

import pytest
import torch
from torch import nn

from clippy_core.errors import ConfigError
from clippy_core.training.config import OptimConfig
from clippy_core.training.optimiser import (
    build_optimiser,
    freeze,
    learning_rate,
    rest_frozen,
    set_learning_rate,
    warmup_steps,
)


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.model = nn.Module()
        self.model.vision = nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2))
        self.model.vision.pos_embed = nn.Parameter(torch.zeros(1, 4, 2))
        self.model.text = nn.Linear(2, 2, bias=False)
        self.model.logit_scale = nn.Parameter(torch.tensor(1.0))
        self.bias = nn.Parameter(torch.tensor(-10.0))


def test_every_parameter_is_in_one_group_with_its_decay_and_factor():
    pair = Pair()
    optimiser = build_optimiser(pair, OptimConfig(lr=2.0, lr_vision=0.5, lr_text=0.1, weight_decay=0.3))
    found = {
        id(parameter): (group["factor"], group["weight_decay"])
        for group in optimiser.param_groups
        for parameter in group["params"]
    }
    expected = {
        "model.vision.0.weight": (0.5, 0.3),
        "model.vision.0.bias": (0.5, 0.0),
        "model.vision.1.weight": (0.5, 0.0),
        "model.vision.1.bias": (0.5, 0.0),
        "model.vision.pos_embed": (0.5, 0.0),
        "model.text.weight": (0.1, 0.3),
        "model.logit_scale": (1.0, 0.0),
        "bias": (1.0, 0.0),
    }
    assert {name: found[id(parameter)] for name, parameter in pair.named_parameters()} == expected
    set_learning_rate(optimiser, 10.0)
    assert {group["factor"]: group["lr"] for group in optimiser.param_groups} == {0.5: 5.0, 0.1: 1.0, 1.0: 10.0}


@pytest.mark.parametrize("kind", ["adamw", "lamb"])
def test_both_rules_bring_a_loss_down(kind):
    torch.manual_seed(0)
    pair, teacher = Pair(), Pair()
    optimiser = build_optimiser(pair, OptimConfig(kind=kind, lr=0.05, weight_decay=0.0))
    inputs = torch.randn(64, 3)
    target = teacher.model.text(teacher.model.vision(inputs)).detach()
    losses = []
    for _ in range(60):
        optimiser.zero_grad()
        loss = (pair.model.text(pair.model.vision(inputs)) - target).square().mean()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]


def test_adamw_is_torchs_own_rule_by_hand():
    """One step of decoupled weight decay, written out."""
    pair, config = Pair(), OptimConfig(lr=0.1, weight_decay=0.5, beta1=0.9, beta2=0.99, eps=1e-6)
    before = pair.model.text.weight.detach().clone()
    optimiser = build_optimiser(pair, config)
    gradient = torch.tensor([[0.5, -2.0], [1.0, 0.25]])
    pair.model.text.weight.grad = gradient.clone()
    set_learning_rate(optimiser, 0.1)
    optimiser.step()
    expected = before * (1 - 0.1 * 0.5) - 0.1 * gradient / (gradient.abs() + 1e-6)
    torch.testing.assert_close(pair.model.text.weight.detach(), expected, rtol=1e-5, atol=1e-6)


def test_schedules():
    cosine = OptimConfig(lr=2.0, warmup=4, schedule="cosine", final_lr=0.1)
    rates = [learning_rate(step, 12, cosine) for step in range(1, 13)]
    assert rates[:4] == pytest.approx([0.5, 1.0, 1.5, 2.0])
    assert rates[7] == pytest.approx(2.0 * (0.1 + 0.9 * (1 + math.cos(math.pi / 2)) / 2))
    assert rates[-1] == pytest.approx(0.2)
    assert all(earlier >= later for earlier, later in itertools.pairwise(rates[3:]))
    linear = OptimConfig(lr=1.0, schedule="linear")
    assert [learning_rate(step, 4, linear) for step in range(1, 5)] == pytest.approx([0.75, 0.5, 0.25, 0.0])
    constant = OptimConfig(lr=1.0, warmup=2, schedule="constant")
    assert [learning_rate(step, 4, constant) for step in range(1, 5)] == pytest.approx([0.5, 1.0, 1.0, 1.0])


def test_a_warm_up_longer_than_the_run_is_refused():
    assert warmup_steps(OptimConfig(warmup=9), 10) == 9
    assert warmup_steps(OptimConfig(warmup=0.25), 10) == 2
    assert warmup_steps(OptimConfig(), 1) == 0
    with pytest.raises(ConfigError, match=r"optim\.warmup is 10 steps, but the run has 10"):
        warmup_steps(OptimConfig(warmup=10), 10)


def test_freezing():
    pair = Pair()
    freeze(pair.model, ("vision.0.", "logit_scale"))
    trained = {name for name, parameter in pair.model.named_parameters() if parameter.requires_grad}
    assert trained == {"vision.1.weight", "vision.1.bias", "vision.pos_embed", "text.weight"}
    frozen = {id(parameter) for name, parameter in pair.model.named_parameters() if name not in trained}
    groups = build_optimiser(pair, OptimConfig()).param_groups
    assert not frozen & {id(parameter) for group in groups for parameter in group["params"]}
    with pytest.raises(ConfigError, match=r"names 'image', which no parameter begins with; known: logit_scale, text"):
        freeze(pair.model, ("image",))
    with pytest.raises(ConfigError, match="nothing to train"):
        freeze(pair.model, ("vision", "text", "logit_scale"))


def test_frozen_norms_keep_their_statistics():
    module = nn.Sequential(nn.BatchNorm1d(2), nn.BatchNorm1d(2)).train()
    freeze(module, ("0",))
    rest_frozen(module)
    before = module[0].running_mean.clone()
    module(torch.randn(8, 2) + 3)
    assert torch.equal(module[0].running_mean, before)
    assert not torch.equal(module[1].running_mean, torch.zeros(2))
