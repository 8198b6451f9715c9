"""Model directories: what is on disk, and how it becomes a model.

A model directory holds ``config.json`` (:class:`~clippy_core.model.config.ModelConfig`), ``model.safetensors``,
``tokenizer.json``, a model card ``README.md``, and ``manifest.json`` with the size and SHA-256 of each. A file that
does not match the manifest is refused, because a flipped bit in weights is otherwise invisible.

Tensors are stored in one of three ways: ``fp32``; ``fp16``; or ``compact``, in which matrices of the text encoder are
8-bit integers with one scale a row (``NAME.int8`` and ``NAME.scale``; value = int8 · scale) and the rest is fp16.
All become float32 when loaded.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from clippy_core.errors import CheckpointError, ConfigError
from clippy_core.files import atomic_write, write_bytes, write_json
from clippy_core.model.config import ModelConfig
from clippy_core.model.dual_encoder import DualEncoder
from clippy_core.model.tokenizer import Tokenizer

CONFIG, WEIGHTS, TOKENIZER, CARD, MANIFEST = (
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "README.md",
    "manifest.json",
)
STORAGES = ("fp32", "fp16", "compact")
FORMAT = 1


class LoadedModel(NamedTuple):
    """A model and its tokenizer, ready for inference, on the CPU."""

    model: DualEncoder
    tokenizer: Tokenizer


def load_directory(path: str | os.PathLike[str]) -> LoadedModel:
    """Load a model directory.

    Raises:
        CheckpointError: The directory or a file in it is missing, damaged, of a later format, or does not fit the
            configuration; one line that names the file or the key.
    """
    path = Path(path)
    if not path.is_dir():
        raise CheckpointError(f"{path}: no such model directory")
    verify(path)
    config = read_config(path)
    model = build(config)
    assign(model, unpack(_read_tensors(path / WEIGHTS)), str(path / WEIGHTS))
    return LoadedModel(model.eval(), Tokenizer(path / TOKENIZER, config.text.max_tokens))


def save_directory(
    path: str | os.PathLike[str], model: DualEncoder, tokenizer_json: bytes, card: str, *, storage: str = "fp32"
) -> list[Path]:
    """Write a model directory; each file appears whole or not at all, the manifest last.

    Args:
        path: The directory; made if missing.
        model: The model; its configuration is written beside it.
        tokenizer_json: Contents of ``tokenizer.json``.
        card: The model card, Markdown with the Hugging Face hub's metadata header.
        storage: ``fp32``, ``fp16`` or ``compact``.

    Returns:
        The files written.
    """
    from safetensors.torch import save

    path = Path(path)
    path.mkdir(parents=True, exist_ok=True)
    # A directory that is being rewritten must not look complete in between.
    (path / MANIFEST).unlink(missing_ok=True)
    write_json(path / CONFIG, model.config.to_dict())
    with atomic_write(path / WEIGHTS) as file:
        file.write(save(pack(model.state_dict(), storage), metadata={"format": "pt", "storage": storage}))
    write_bytes(path / TOKENIZER, tokenizer_json)
    write_bytes(path / CARD, card.encode())
    files = [path / name for name in (CONFIG, WEIGHTS, TOKENIZER, CARD)]
    write_manifest(path, [file.name for file in files])
    return [*files, path / MANIFEST]


def write_manifest(path: Path, names: list[str]) -> None:
    """Record size and SHA-256 of the named files of a model directory."""
    entries = {name: {"bytes": (path / name).stat().st_size, "sha256": sha256(path / name)} for name in names}
    write_json(path / MANIFEST, {"format": FORMAT, "files": entries})


def verify(path: Path) -> None:
    """Compare every file of a model directory with the manifest, except the card, which people may edit.

    Raises:
        CheckpointError: A missing, resized or altered file, or a manifest of a later format.
    """
    manifest = read_json(path / MANIFEST)
    if manifest.get("format") != FORMAT:
        raise CheckpointError(
            f"{path / MANIFEST}: format {manifest.get('format')!r}; this version reads format {FORMAT}"
        )
    files = manifest.get("files", {})
    for name in (CONFIG, WEIGHTS, TOKENIZER):
        if name not in files:
            raise CheckpointError(f"{path / MANIFEST}: does not list {name}")
        file, expected = path / name, files[name]
        if not file.is_file():
            raise CheckpointError(f"{file}: missing; the manifest lists it")
        if file.stat().st_size != expected["bytes"]:
            raise CheckpointError(f"{file}: {file.stat().st_size:,} bytes; the manifest says {expected['bytes']:,}")
        if sha256(file) != expected["sha256"]:
            raise CheckpointError(f"{file}: SHA-256 differs from the manifest; the file is damaged, fetch it again")


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


def build(config: ModelConfig) -> DualEncoder:
    """A model whose parameters are allocated but not initialised; see :func:`assign`."""
    with _SkipInitialisation():
        return DualEncoder(config)


def assign(model: DualEncoder, state: Mapping[str, Tensor], source: str) -> None:
    """Make ``state`` the model's parameters and buffers, exactly.

    Raises:
        CheckpointError: A key is missing, extra or misshapen; one line naming the first few and their number.
    """
    expected = model.state_dict()
    problems = [f"misses {key}" for key in expected if key not in state]
    problems += [f"has an unknown {key}" for key in state if key not in expected]
    problems += [
        f"has {key} of shape {list(state[key].shape)} instead of {list(expected[key].shape)}"
        for key in expected
        if key in state and state[key].shape != expected[key].shape
    ]
    if problems:
        more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
        raise CheckpointError(f"{source}: does not fit {model.config.name!r}: {'; '.join(problems[:3])}{more}")
    model.load_state_dict(state, strict=True, assign=True)


def pack(state: Mapping[str, Tensor], storage: str) -> dict[str, Tensor]:
    """Tensors as they are stored; see the module's docstring.

    Raises:
        ConfigError: An unknown storage.
    """
    if storage not in STORAGES:
        raise ConfigError(f"storage is {storage!r}; accepted: {', '.join(STORAGES)}")
    packed: dict[str, Tensor] = {}
    for key, tensor in state.items():
        if not tensor.is_floating_point():
            packed[key] = tensor.contiguous()
        elif storage == "fp32":
            packed[key] = tensor.float().contiguous()
        elif storage == "compact" and key.startswith("text.encoder.") and tensor.ndim == 2:
            scale = tensor.float().abs().amax(dim=1, keepdim=True).clamp(min=1e-12) / 127
            packed[f"{key}.int8"] = (tensor.float() / scale).round().to(torch.int8)
            packed[f"{key}.scale"] = scale
        else:
            packed[key] = tensor.half().contiguous()
    return packed


def unpack(packed: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors as the model uses them, the inverse of :func:`pack`: floating point becomes float32."""
    state: dict[str, Tensor] = {}
    for key, tensor in packed.items():
        if key.endswith(".int8"):
            name = key.removesuffix(".int8")
            state[name] = tensor.float().mul_(packed[f"{name}.scale"])
        elif not (key.endswith(".scale") and f"{key.removesuffix('.scale')}.int8" in packed):
            state[key] = tensor.float() if tensor.is_floating_point() else tensor
    return state


def _read_tensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: not a readable safetensors file ({error})") from error


class _SkipInitialisation(TorchFunctionMode):
    """Leaves new parameters unfilled: drawing random numbers that are overwritten at once takes most of a load."""

    _RANDOM = frozenset({"normal_", "uniform_", "trunc_normal_", "erfinv_"})

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__module__", None) == "torch.nn.init" or getattr(func, "__name__", "") in self._RANDOM:
            return (kwargs or {}).get("tensor", args[0] if args else None)
        return func(*args, **(kwargs or {}))
