"""Checkpoints of others, read safely and renamed to our keys.

A checkpoint is a ``.safetensors`` file or a pickled ``.pt``/``.pth``/``.bin`` file; the latter is opened with
``weights_only=True`` only, so nothing in it is ever executed, and memory-mapped, so that converting costs little more
than the file. Wrappers (``{"state_dict": …, "epoch": …}``) and prefixes (``module.``, ``_orig_mod.``) are taken off.

Layouts that are recognised, by the keys they have:

========== ================================== ===========================================
layout     written by                         keys
========== ================================== ===========================================
clippy     this package                       ``vision.trunk.*``, ``text.encoder.*``
published  ``kahnchana/clippy``, release v1.0 ``visual.trunk.*``, ``text.0.auto_model.*``, ``text.2.linear.weight``
open_clip  OpenCLIP's custom-text models      ``visual.trunk.*``, ``visual.head.proj.weight``, ``text.transformer.*``,
                                              ``text.proj.weight``
flax       the JAX notebooks of               nested: ``params/visual/transformer/resblocks.0/attn/query/kernel``, …
           ``kahnchana/clippy``
========== ================================== ===========================================

What is known of the flax layout comes from the modules in ``notebooks/jax_scenic`` and from how Flax and transformers
name parameters; the file itself (``clippy_flax.pt``) was never published, so only the shapes could be checked.
"""

import os
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from clippy_core.errors import CheckpointError
from clippy_core.model.directory import TOKENIZER, read_config
from clippy_core.model.presets import MODELS, Preset, find, get_preset
from clippy_core.model.tokenizer import Tokenizer
from clippy_core.model.weights import LoadedModel, assign, build, read_tensors, unpack

WRAPPERS = ("state_dict", "model_state_dict", "model", "params")
PREFIXES = ("module.", "_orig_mod.", "model.", "params/")
LAYOUTS: dict[str, dict[str, str]] = {
    "clippy": {"vision.": "vision.", "text.": "text.", "logit_scale": "logit_scale"},
    "published": {
        "visual.trunk.": "vision.trunk.",
        "text.0.auto_model.": "text.encoder.",
        "text.2.linear.": "text.dense.",
        "logit_scale": "logit_scale",
    },
    "open_clip": {
        "visual.trunk.": "vision.trunk.",
        "visual.head.proj.": "vision.projection.",
        "text.transformer.": "text.encoder.",
        "text.proj.": "text.projection.",
        "logit_scale": "logit_scale",
    },
}
"""Old prefix → our prefix."""
MARKS = {
    "clippy": "vision.trunk.",
    "published": "text.0.auto_model.",
    "open_clip": "text.transformer.",
    "flax": "visual/transformer/resblocks",
}
"""A prefix that only this layout has."""
DERIVED = ("position_ids", "token_type_ids", "pooler.dense.weight", "pooler.dense.bias")
"""Ends of keys that older library versions wrote and that carry nothing the model reads."""


def load_checkpoint(model: str | os.PathLike[str], path: str | os.PathLike[str]) -> LoadedModel:
    """A model by registered name or directory, with the weights of a checkpoint file instead of its own.

    The tokenizer is ``tokenizer.json`` beside the file; else the one in the preset's directory; else the one of the
    text tower on the Hugging Face hub, from the local cache or downloaded.

    Raises:
        UsageError: An unknown name.
        CheckpointError: The file cannot be read or does not fit the model, or no tokenizer can be had.
    """
    path = Path(path)
    if isinstance(model, str) and model in MODELS:
        preset = get_preset(model)
    else:
        preset = Preset(read_config(find(model)), find(model), str(model))
    encoder = build(preset.config)
    assign(encoder, convert(read_checkpoint(path), str(path)), str(path))
    tokenizer = Tokenizer(_find_tokenizer(preset, path.parent), preset.config.text.max_tokens)
    return LoadedModel(encoder.eval(), tokenizer)


def _find_tokenizer(preset: Preset, folder: Path) -> Path:
    places = [folder, preset.directory, Path(preset.tokenizer) if preset.tokenizer else None]
    for place in places:
        if place is not None and (place / TOKENIZER).is_file():
            return place / TOKENIZER
    if preset.tokenizer is None:
        raise CheckpointError(f"{folder / TOKENIZER}: missing; put the text tower's tokenizer beside the checkpoint")
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(preset.tokenizer, TOKENIZER))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise CheckpointError(
            f"no tokenizer: {folder / TOKENIZER} is missing and {preset.tokenizer} cannot be had from the Hugging Face "
            f"hub ({type(error).__name__}); put its {TOKENIZER} beside the checkpoint"
        ) from error


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The tensors of a checkpoint file, wrappers and prefixes taken off, names otherwise as they are.

    Raises:
        CheckpointError: The file is missing, is no checkpoint, is truncated, or holds anything but tensors and plain
            values; in the last case nothing of it was executed.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint file")
    return without_prefixes(read_file(path))


def read_file(path: Path) -> dict[str, Tensor]:
    """As :func:`read_checkpoint`, for a file that is there, with prefixes left on."""
    content = unpack(read_tensors(path)) if path.suffix == ".safetensors" else _read_pickle(path)
    return _tensors(content, path)


def convert(state: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """Rename the tensors of a checkpoint to our keys.

    A second name of the same tensor, as T5's embedding has, is dropped if both hold the same numbers.

    Raises:
        CheckpointError: No layout fits, or a key belongs to none of its parts; one line naming the key.
    """
    layout = next((name for name, mark in MARKS.items() if any(key.startswith(mark) for key in state)), None)
    if layout == "flax":
        return from_flax(state, source)
    if layout is None:
        some = ", ".join(sorted(state)[:3]) or "none"
        raise CheckpointError(f"{source}: unknown layout (its first keys: {some}); accepted: {', '.join(MARKS)}")
    converted: dict[str, Tensor] = {}
    for key, tensor in state.items():
        if key.endswith(DERIVED):
            continue
        old = next((old for old in LAYOUTS[layout] if key.startswith(old)), None)
        if old is None:
            raise CheckpointError(f"{source}: key {key!r} has no place in the {layout} layout")
        converted[LAYOUTS[layout][old] + key.removeprefix(old)] = (
            tensor.float() if tensor.is_floating_point() else tensor
        )
    return _without_second_embedding(converted, source)


FLAX_VISION = {
    "class_embedding": "cls_token",
    "positional_embedding": "pos_embed",
    "conv1/kernel": "patch_embed.proj.weight",
    "conv1/bias": "patch_embed.proj.bias",
    "ln_post/scale": "norm.weight",
    "ln_post/bias": "norm.bias",
}
FLAX_BLOCK = {
    "ln_1/scale": "norm1.weight",
    "ln_1/bias": "norm1.bias",
    "ln_2/scale": "norm2.weight",
    "ln_2/bias": "norm2.bias",
    "attn/out/kernel": "attn.proj.weight",
    "attn/out/bias": "attn.proj.bias",
    "mlp/c_fc/kernel": "mlp.fc1.weight",
    "mlp/c_fc/bias": "mlp.fc1.bias",
    "mlp/c_proj/kernel": "mlp.fc2.weight",
    "mlp/c_proj/bias": "mlp.fc2.bias",
}


def from_flax(state: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """Rename and reshape the parameter tree of the JAX notebooks.

    Flax keeps linear weights as (in, out), convolutions as (h, w, in, out), and attention by head: query, key and value
    of shape (D, heads, D/heads), which timm joins into one matrix of shape (3·D, D).

    Raises:
        CheckpointError: A key that the layout does not have, or a block without one of its three projections.
    """
    converted: dict[str, Tensor] = {}
    heads: dict[str, dict[str, Tensor]] = {}
    for key, tensor in state.items():
        name, value = key, tensor.float()
        if key == "logit_scale":
            converted["logit_scale"] = value
        elif key.startswith("visual/"):
            part = key.removeprefix("visual/")
            block = re.fullmatch(r"transformer/resblocks[._](\d+)/(.+)", part)
            if block and (head := re.fullmatch(r"attn/(query|key|value)/(kernel|bias)", block[2])):
                heads.setdefault(f"vision.trunk.blocks.{block[1]}.attn.qkv.{head[2]}", {})[head[1]] = value
                continue
            table, prefix = (FLAX_BLOCK, f"blocks.{block[1]}.") if block else (FLAX_VISION, "")
            name = table.get(block[2] if block else part, "")
            if not name:
                raise CheckpointError(f"{source}: key {key!r} has no place in the flax layout")
            converted[f"vision.trunk.{prefix}{name}"] = _flax_vision(name, value)
        elif key == "text/dense/kernel":
            converted["text.dense.weight"] = value.T
        elif key.startswith("text/transformer/"):
            name = key.removeprefix("text/transformer/").replace("/", ".")
            matrix = name.endswith(".kernel")
            name = re.sub(r"\.(kernel|embedding)$", ".weight", name)
            converted[f"text.encoder.{name}"] = value.T if matrix else value
        else:
            raise CheckpointError(f"{source}: key {key!r} has no place in the flax layout")
    for name, parts in heads.items():
        if set(parts) != {"query", "key", "value"}:
            raise CheckpointError(f"{source}: {name} lacks {', '.join(sorted({'query', 'key', 'value'} - set(parts)))}")
        joined = [_by_head(parts[part]) for part in ("query", "key", "value")]
        converted[name.replace(".kernel", ".weight")] = torch.cat(joined)
    return {name: tensor.contiguous() for name, tensor in converted.items()}


def _flax_vision(name: str, value: Tensor) -> Tensor:
    if name == "cls_token":
        return value[None, None]
    if name == "pos_embed":
        return value[None]
    if name == "patch_embed.proj.weight":
        return value.permute(3, 2, 0, 1)
    if name == "attn.proj.weight":
        return value.flatten(0, 1).T
    return value.T if value.ndim == 2 else value


def _by_head(value: Tensor) -> Tensor:
    """(D, heads, d) → (heads·d, D); (heads, d) → (heads·d)."""
    return value.flatten(1).T if value.ndim == 3 else value.flatten()


def _without_second_embedding(state: dict[str, Tensor], source: str) -> dict[str, Tensor]:
    first, second = "text.encoder.shared.weight", "text.encoder.encoder.embed_tokens.weight"
    if first in state and second in state:
        if not torch.equal(state[first], state[second]):
            raise CheckpointError(f"{source}: {first} and {second} should be one tensor but differ")
        del state[second]
    elif second in state:
        state[first] = state.pop(second)
    return state


def _read_pickle(path: Path) -> Any:
    try:
        # Files written before torch 1.6 are no zip archives and cannot be memory-mapped.
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        reason = next((line for line in str(error).splitlines() if "nsupported" in line or "GLOBAL" in line), "")
        raise CheckpointError(
            f"{path}: holds more than tensors and plain values and was refused; nothing in it was run"
            + (f" ({reason.strip()[:200]})" if reason else "")
        ) from error
    except (RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"{path}: not a readable checkpoint ({' '.join(str(error).split())[:200] or 'it is empty'})"
        ) from error


def _flat(tree: Mapping[Any, Any], path: str = "") -> dict[str, Any]:
    """A nested table as one with ``/`` between names; a table that is flat stays as it is."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{path}/{key}" if path else str(key)
        flat |= _flat(value, name) if isinstance(value, Mapping) else {name: value}
    return flat


def _tensors(content: Any, path: Path) -> dict[str, Tensor]:
    while isinstance(content, Mapping):
        inner = next((content[name] for name in WRAPPERS if isinstance(content.get(name), Mapping)), None)
        if inner is None:
            break
        content = inner
    content = _flat(content) if isinstance(content, Mapping) else content
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path}: a table of tensors is expected, not {type(content).__name__}")
    tensors = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    if not tensors:
        raise CheckpointError(f"{path}: no tensors in it (its keys: {', '.join(map(str, list(content)[:5]))})")
    return tensors


def without_prefixes(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Take off what wrappers of models put before every name."""
    while prefix := next((p for p in PREFIXES if all(key.startswith(p) for key in state)), None):
        state = {key.removeprefix(prefix): tensor for key, tensor in state.items()}
    return state
