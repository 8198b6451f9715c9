"""What a model directory holds, and whether it is whole. Imports no torch.

A model directory holds ``config.json`` (:class:`~clippy_core.model.config.ModelConfig`), ``model.safetensors``,
``tokenizer.json``, a model card ``README.md``, and ``manifest.json`` with the size and SHA-256 of each; a checkpoint of
a training run has further files, listed there too. A file that does not match the manifest is refused, because a
flipped bit in weights is otherwise invisible.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from clippy_core.errors import CheckpointError, ConfigError
from clippy_core.model.config import ModelConfig

CONFIG, WEIGHTS, TOKENIZER, CARD, MANIFEST = (
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "README.md",
    "manifest.json",
)
FORMAT = 1
EXPORTED = {
    "onnx.json": "which ONNX Runtime runs, here as part of `clippy segment`",
    "torch.json": "which torch runs without clippy",
}
"""Sheets that an exported model has instead of weights and a manifest, and who runs it."""


def verify(path: Path) -> None:
    """Compare every file of a model directory with the manifest, except the card, which people may edit.

    Raises:
        CheckpointError: A missing, resized or altered file, or a manifest that is damaged or of a later format.
    """
    manifest = read_manifest(path)
    for name in (CONFIG, WEIGHTS, TOKENIZER, *sorted(manifest.keys() - {CONFIG, WEIGHTS, TOKENIZER, CARD})):
        expected = manifest.get(name)
        if not isinstance(expected, dict) or not isinstance(expected.get("bytes"), int) or "sha256" not in expected:
            raise CheckpointError(f"{path / MANIFEST}: does not list {name} with its size and SHA-256")
        file = path / name
        if not file.is_file():
            raise CheckpointError(f"{file}: missing; the manifest lists it")
        if file.stat().st_size != expected["bytes"]:
            raise CheckpointError(f"{file}: {file.stat().st_size:,} bytes; the manifest says {expected['bytes']:,}")
        if sha256(file) != expected["sha256"]:
            raise CheckpointError(f"{file}: SHA-256 differs from the manifest; the file is damaged, fetch it again")


def read_manifest(path: Path) -> dict[str, Any]:
    """What the manifest of a model directory says about each file, by name; empty if it lists none.

    Raises:
        CheckpointError: Missing, not JSON, of a later format, or with a name that is not that of a file beside it.
    """
    if not (path / MANIFEST).exists():
        refuse_exported(path)
    manifest = read_json(path / MANIFEST)
    if manifest.get("format") != FORMAT:
        raise CheckpointError(
            f"{path / MANIFEST}: format {manifest.get('format')!r}; this version reads format {FORMAT}"
        )
    files = manifest.get("files")
    files = files if isinstance(files, dict) else {}
    for name in files:
        if not is_file_name(name):
            raise CheckpointError(f"{path / MANIFEST}: lists {name!r}, which is not the name of a file beside it")
    return files


def is_exported(path: Path) -> bool:
    """Whether a folder holds an exported model and no weights of its own."""
    return not (path / WEIGHTS).is_file() and any((path / sheet).is_file() for sheet in EXPORTED)


def refuse_exported(path: Path) -> None:
    """Make sure that a folder is no exported model, whose inside cannot be looked at; raises CheckpointError."""
    if is_exported(path):
        runs = next(words for sheet, words in EXPORTED.items() if (path / sheet).is_file())
        raise CheckpointError(
            f"{path}: an exported model, {runs}; accepted here: a model with weights, such as the one it was made from"
        )


def is_file_name(name: str) -> bool:
    """Whether ``name`` is that of a file in the directory itself, on every system."""
    return name not in ("", ".", "..") and not set(name) & set('/\\:\0"')


def read_config(path: Path) -> ModelConfig:
    """The configuration of a model directory.

    Raises:
        CheckpointError: Missing, not JSON, or with fields that are not accepted.
    """
    try:
        return ModelConfig.from_dict(read_json(path / CONFIG))
    except ConfigError as error:
        raise CheckpointError(f"{path / CONFIG}: {error}") from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file; raises :class:`CheckpointError` if it is missing or something else."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}); a model directory must have it") from error
    except ValueError as error:
        raise CheckpointError(f"{path}: not JSON ({error})") from error
    if not isinstance(document, dict):
        raise CheckpointError(f"{path}: a JSON object is expected, not {type(document).__name__}")
    return document


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
