"""What is known about the models, without loading any. Imports no torch; works offline."""

import json
import math
import struct
from pathlib import Path
from typing import Any

from clippy_core.errors import CheckpointError, ClippyError, PluginError
from clippy_core.model.directory import is_exported, read_config
from clippy_core.model.hub import PREFIX
from clippy_core.model.presets import MODELS, Preset, find, get_preset
from clippy_core.registry import OWN_DISTRIBUTION, Entry


def catalogue() -> list[dict[str, Any]]:
    """A short description of every registered model; a broken one has its ``error`` filled in instead."""
    return [_entry_card(entry) for entry in MODELS]


def describe(model: str) -> dict[str, Any]:
    """Everything known about one model, by registered name, directory or ``hf:ORG/NAME``.

    Raises:
        UsageError: An unknown name.
        PluginError: A model of another package that cannot be used.
        DataError: A directory without a readable configuration, or with damaged weights.
    """
    if model in MODELS:
        return {"name": model, **_facts(get_preset(model)), "package": MODELS.entry(model).source}
    directory = find(model)
    config = read_config(directory)
    return {
        "name": config.name,
        **_facts(Preset(config, directory, model if model.startswith(PREFIX) else str(directory))),
        "package": "",
    }


def _entry_card(entry: Entry) -> dict[str, Any]:
    try:
        facts, error = _facts(get_preset(entry.name)), None
    except ClippyError as problem:
        facts, error = {}, str(problem)
    except Exception as problem:
        # Third-party code may raise anything; the list goes on without it. Our own presets are covered by tests.
        if entry.source == OWN_DISTRIBUTION:
            raise
        facts, error = {}, str(PluginError(f"model {entry.name!r} of package {entry.source!r} failed: {problem}"))
    return {
        "name": entry.name,
        "description": facts.get("description", ""),
        "licence": facts.get("licence", ""),
        "parameters": facts.get("parameters"),
        "size": facts.get("size"),
        "source": facts.get("source", ""),
        "on_disk": facts.get("on_disk", False),
        "bytes": facts.get("bytes", 0),
        "package": entry.source,
        "error": error,
    }


def _facts(preset: Preset) -> dict[str, Any]:
    config, directory = preset.config, preset.directory
    weights = directory / "model.safetensors" if directory else None
    with_weights = bool(weights and weights.is_file())
    on_disk = with_weights or bool(directory and is_exported(directory))
    return {
        "description": config.description,
        "quality": config.quality,
        "licence": config.licence,
        "parameters": count_parameters(weights) if with_weights and weights else preset.parameters,
        "image_tower": config.vision.backbone,
        "text_tower": str(config.text.encoder.get("model_type")),
        "pooling": config.vision.pool,
        "size": config.vision.size,
        "templates": list(config.templates),
        "source": preset.source,
        "weights": preset.weights.url if preset.weights else None,
        "image_tower_starts_from": preset.init_vision,
        "text_tower_starts_from": preset.init_text,
        "directory": str(directory) if directory else None,
        "on_disk": on_disk,
        "bytes": sum(file.stat().st_size for file in directory.iterdir()) if on_disk and directory else 0,
    }


def count_parameters(weights: Path) -> int:
    """Numbers in a safetensors file that are parameters, from its header alone.

    Scales of 8-bit rows, integer buffers and batch-norm statistics are left out.

    Raises:
        CheckpointError: The header cannot be read.
    """
    try:
        with open(weights, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > weights.stat().st_size:
                raise ValueError(f"header of {length:,} bytes announced")
            tensors = {key: tensor for key, tensor in json.loads(file.read(length)).items() if key != "__metadata__"}
            return sum(math.prod(tensors[key]["shape"]) for key in tensors if _is_parameter(key, tensors))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise CheckpointError(f"{weights}: not a safetensors file ({error})") from error


def _is_parameter(key: str, tensors: dict[str, Any]) -> bool:
    packing_scale = key.endswith(".scale") and f"{key.removesuffix('.scale')}.int8" in tensors
    statistic = key.endswith((".running_mean", ".running_var"))
    return not packing_scale and not statistic and tensors[key]["dtype"] not in ("I64", "I32", "BOOL", "U8")
