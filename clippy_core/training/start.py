"""Where a run starts: the model it trains, from nothing or from pretrained towers."""

import math
from dataclasses import replace

import torch

from clippy_core.model.config import ModelConfig
from clippy_core.model.directory import read_config, refuse_exported
from clippy_core.model.initialise import initialise
from clippy_core.model.presets import MODELS, Preset, find, get_preset
from clippy_core.model.weights import LoadedModel
from clippy_core.training.config import LossConfig, StartConfig

SIGLIP_SCALE = 10.0
"""Source: Zhai et al. 2023, *Sigmoid Loss for Language Image Pre-Training* (arXiv 2303.15343), section 3.2."""


def start_model(start: StartConfig, loss: LossConfig, seed: int) -> LoadedModel:
    """The model that a run begins with, on the CPU; the factor on cosines is what ``loss`` says, or its kind's usual.

    A tower starts where ``start`` says, else with the model's own weights if it has any on this machine, else where
    its preset says training starts, else at random.

    Raises:
        UsageError: An unknown model.
        DataError: Weights or a tokenizer that cannot be had or do not fit.
    """
    preset = _preset(start.name)
    own = str(preset.directory) if preset.directory else None
    loaded = initialise(
        _adapted(preset, start),
        vision=start.init_vision or own or preset.init_vision,
        text=start.init_text or own or preset.init_text,
        tokenizer=own or preset.tokenizer,
        seed=seed,
    )
    scale = loss.scale or (SIGLIP_SCALE if loss.kind == "siglip" else None)
    if scale is not None:
        with torch.no_grad():
            loaded.model.logit_scale.fill_(math.log(scale))
    return loaded


def _preset(name: str) -> Preset:
    if name in MODELS:
        return get_preset(name)
    directory = find(name)
    refuse_exported(directory)
    return Preset(read_config(directory), directory, name)


def _adapted(preset: Preset, start: StartConfig) -> ModelConfig:
    """The preset's configuration as the run wants it; what was measured and licensed are other weights."""
    licence = preset.config.licence if preset.directory else "unknown"
    config = replace(preset.config, quality="not measured", licence=licence)
    return config if start.pool is None else replace(config, vision=replace(config.vision, pool=start.pool))
