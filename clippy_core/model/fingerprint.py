"""What tells models apart, whatever they are called and wherever they lie. Opens no weights; imports no torch."""

import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path

from clippy_core.errors import CheckpointError
from clippy_core.model.directory import (
    CONFIG,
    EXPORTED,
    MANIFEST,
    TOKENIZER,
    WEIGHTS,
    is_exported,
    read_config,
    read_manifest,
    sha256,
)
from clippy_core.model.presets import MODELS, find, get_preset


def fingerprint(model: str | os.PathLike[str], checkpoint: str | os.PathLike[str] | None = None) -> str:
    """A digest of everything that decides what a model computes: its configuration, weights and tokenizer.

    Of a model directory the hashes are taken that its manifest gives, which loading compares with the files, and of an
    exported model's graphs those in its sheet. A checkpoint is read to its end; one that cannot be read is left to
    loading, which says why.

    Args:
        model: As for :func:`~clippy_core.model.runtime.open_engine`.
        checkpoint: Weights to use instead of the model's own.

    Raises:
        UsageError: An unknown name.
        DataError: A path that does not exist, or a model whose weights are not on this machine.
        CheckpointError: A directory without a usable manifest.
    """
    if checkpoint is not None:
        known = isinstance(model, str) and model in MODELS
        config = get_preset(str(model)).config if known else read_config(find(model))
        beside = Path(checkpoint).parent / TOKENIZER
        return _digest(json.dumps(asdict(config), sort_keys=True, default=str), *map(_hash, (Path(checkpoint), beside)))
    path = find(model)
    if is_exported(path):
        return _digest(*(_hash(path / name) for name in (*EXPORTED, CONFIG, TOKENIZER)))
    files = read_manifest(path)
    try:
        return _digest(*(str(files[name]["sha256"]) for name in (CONFIG, WEIGHTS, TOKENIZER)))
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{path / MANIFEST}: does not list {error} with its size and SHA-256") from error


def _hash(path: Path) -> str:
    try:
        return sha256(path)
    except OSError:
        return ""


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
