"""Which parameters are trained, by which rule, and how fast at each step."""

import math

import torch
from torch import nn
from torch.optim import Optimizer

from clippy_core.errors import ConfigError
from clippy_core.training.config import OptimConfig

UNDECAYED = ("pos_embed", "cls_token", "reg_token", "register_tokens")
"""Ends of names of embeddings that are no matrices, though they have more than one axis."""


def freeze(module: nn.Module, prefixes: tuple[str, ...]) -> None:
    """Take parameters whose name begins with one of ``prefixes`` out of training.

    Raises:
        ConfigError: A prefix that no parameter has, or nothing left to train.
    """
    names = [name for name, _ in module.named_parameters()]
    for prefix in prefixes:
        if not any(name.startswith(prefix) for name in names):
            parts = sorted({".".join(name.split(".")[:2]) for name in names})
            raise ConfigError(
                f"model.freeze names {prefix!r}, which no parameter begins with; known: {', '.join(parts)}"
            )
    for name, parameter in module.named_parameters():
        if name.startswith(prefixes):
            parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in module.parameters()):
        raise ConfigError(f"model.freeze is {list(prefixes)!r}, which leaves nothing to train")


def rest_frozen(module: nn.Module) -> None:
    """Take norms that are not trained out of training mode, so that their batch statistics stay as they are."""
    for part in module.modules():
        if getattr(part, "running_mean", None) is not None:
            weights = list(part.parameters(recurse=False))
            if weights and not any(weight.requires_grad for weight in weights):
                part.eval()


def build_optimiser(module: nn.Module, config: OptimConfig) -> Optimizer:
    """The optimiser over every parameter that is trained, in groups by tower and by whether weight decay applies.

    Each group carries ``factor``, what its learning rate is multiplied by. Vectors, biases, position embeddings and
    tokens are not decayed.
    """
    factors = {"vision": config.lr_vision, "text": config.lr_text}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        factor = factors.get(name.removeprefix("model.").split(".")[0], 1.0)
        decay = 0.0 if parameter.ndim < 2 or name.endswith(UNDECAYED) else config.weight_decay
        groups.setdefault((factor, decay), []).append(parameter)
    parameters = [
        {"params": members, "weight_decay": decay, "factor": factor, "lr": config.lr * factor}
        for (factor, decay), members in groups.items()
    ]
    common = {"lr": config.lr, "betas": (config.beta1, config.beta2), "eps": config.eps}
    if config.kind == "lamb":
        from timm.optim.lamb import Lamb

        # Clipping is ours, so that it is the same for every rule; timm's own is switched off.
        return Lamb(parameters, max_grad_norm=None, decoupled_decay=True, **common)
    return torch.optim.AdamW(parameters, fused=True, **common)


def learning_rate(step: int, steps: int, config: OptimConfig) -> float:
    """The learning rate of a step, without the towers' factors: a linear warm-up, then the schedule.

    Args:
        step: Its number, from 1 to ``steps``.
        steps: Steps of the whole run.
        config: Peak, warm-up and schedule.
    """
    warmup = warmup_steps(config, steps)
    if step <= warmup:
        return config.lr * step / warmup
    if config.schedule == "constant":
        return config.lr
    share = (step - warmup) / max(1, steps - warmup)
    height = (1 + math.cos(math.pi * share)) / 2 if config.schedule == "cosine" else 1 - share
    return config.lr * (config.final_lr + (1 - config.final_lr) * height)


def set_learning_rate(optimiser: Optimizer, rate: float) -> None:
    """Give every group its learning rate."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group["factor"]


def warmup_steps(config: OptimConfig, steps: int) -> int:
    """How many of a run's ``steps`` warm up.

    Raises:
        ConfigError: Not fewer than the run has.
    """
    warmup = int(config.warmup * steps) if config.warmup < 1 else int(config.warmup)
    if warmup >= steps:
        raise ConfigError(f"optim.warmup is {warmup} steps, but the run has {steps}; accepted: fewer than that")
    return warmup
