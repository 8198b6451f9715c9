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
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from clippy_core.errors import CheckpointError, ConfigError
from clippy_core.files import atomic_write, to_json
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
    try:
        model = build(config)
    except ConfigError as error:
        raise CheckpointError(f"{path / CONFIG}: {error}") from error
    assign(model, unpack(read_tensors(path / WEIGHTS)), str(path / WEIGHTS))
    return LoadedModel(model.eval(), Tokenizer(path / TOKENIZER, config.text.max_tokens))


def save_directory(
    path: str | os.PathLike[str], model: DualEncoder, tokenizer_json: bytes, card: str, *, storage: str = "fp32"
) -> list[Path]:
    """Write a model directory.

    All files are written under temporary names before the first takes its own, the manifest last: a full disk leaves
    the previous model as it was, and a crash between two renames leaves a directory that the manifest refuses.

    Args:
        path: The directory; made if missing.
        model: The model; its configuration is written beside it.
        tokenizer_json: Contents of ``tokenizer.json``.
        card: The model card, Markdown with the Hugging Face hub's metadata header.
        storage: ``fp32``, ``fp16`` or ``compact``.

    Returns:
        The files written.

    Raises:
        ConfigError: An unknown storage.
        OSError: The directory or a file in it cannot be written.
    """
    from safetensors.torch import save

    path = Path(path)
    tied = _tied_names(model)
    state = {key: tensor for key, tensor in model.state_dict().items() if key not in tied}
    contents = {
        CONFIG: to_json(model.config.to_dict(), indent=2),
        WEIGHTS: save(pack(state, storage), metadata={"format": "pt", "storage": storage}),
        TOKENIZER: tokenizer_json,
        CARD: card.encode(),
    }
    entries = {
        name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in contents.items()
    }
    manifest = to_json({"format": FORMAT, "files": entries}, indent=2)
    with ExitStack() as files:
        # Files take their names in the reverse of this order.
        for name, data in {MANIFEST: manifest, **contents}.items():
            file = files.enter_context(atomic_write(path / name))
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    return [path / name for name in (*contents, MANIFEST)]


def verify(path: Path) -> None:
    """Compare every file of a model directory with the manifest, except the card, which people may edit.

    Raises:
        CheckpointError: A missing, resized or altered file, or a manifest that is damaged or of a later format.
    """
    manifest = read_json(path / MANIFEST)
    if manifest.get("format") != FORMAT:
        raise CheckpointError(
            f"{path / MANIFEST}: format {manifest.get('format')!r}; this version reads format {FORMAT}"
        )
    files = manifest.get("files")
    for name in (CONFIG, WEIGHTS, TOKENIZER):
        expected = files.get(name) if isinstance(files, dict) else None
        if not isinstance(expected, dict) or not isinstance(expected.get("bytes"), int) or "sha256" not in expected:
            raise CheckpointError(f"{path / MANIFEST}: does not list {name} with its size and SHA-256")
        file = path / name
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

    A parameter that has several names in the model, as the embedding of T5 has, may come under any of them.

    Raises:
        CheckpointError: A key is missing, extra, misshapen or of another type; one line naming the first few and
            their number.
    """
    state = dict(state)
    tied = _tied_names(model)
    for name, first in tied.items():
        if name in state:
            state = {first: state.pop(name), **state}
    expected = {key: tensor for key, tensor in model.state_dict().items() if key not in tied}
    problems = [f"misses {key}" for key in expected if key not in state]
    problems += [f"has an unknown {key}" for key in state if key not in expected]
    problems += [
        f"has {key} as {state[key].dtype} instead of {expected[key].dtype}"
        for key in expected
        if key in state and state[key].dtype != expected[key].dtype
    ]
    problems += [
        f"has {key} of shape {list(state[key].shape)} instead of {list(expected[key].shape)}"
        for key in expected
        if key in state and state[key].shape != expected[key].shape
    ]
    if problems:
        more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
        raise CheckpointError(f"{source}: does not fit {model.config.name!r}: {'; '.join(problems[:3])}{more}")
    model.load_state_dict({**state, **{name: state[first] for name, first in tied.items()}}, strict=True, assign=True)
    for name, first in tied.items():
        module, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(module), leaf, model.get_parameter(first))


def _tied_names(model: DualEncoder) -> dict[str, str]:
    """Further names of parameters that have several, each with the first name."""
    first: dict[int, str] = {}
    names = {name: first.setdefault(id(value), name) for name, value in model.named_parameters(remove_duplicate=False)}
    return {name: owner for name, owner in names.items() if name != owner}


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
    """Tensors as the model uses them, the inverse of :func:`pack`: floating point becomes float32.

    8-bit rows without fitting scales stay as they are, under the name they have; :func:`assign` refuses them.
    """
    state: dict[str, Tensor] = {}
    for key, tensor in packed.items():
        name, _, part = key.rpartition(".")
        rows, scale = packed.get(f"{name}.int8"), packed.get(f"{name}.scale")
        fit = rows is not None and scale is not None and rows.ndim == 2 and scale.shape == (rows.shape[0], 1)
        if fit and part == "int8":
            state[name] = tensor.float().mul_(packed[f"{name}.scale"].float())
        elif not fit or part != "scale":
            state[key] = tensor.float() if tensor.is_floating_point() else tensor
    return state


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file as they are stored; raises :class:`CheckpointError` if it cannot be read."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: not a readable safetensors file ({error})") from error


class _SkipInitialisation(TorchFunctionMode):
    """Leaves new parameters unfilled: drawing random numbers that are overwritten at once is time lost."""

    _RANDOM = frozenset({"normal_", "uniform_", "trunc_normal_", "erfinv_"})

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__module__", None) == "torch.nn.init" or getattr(func, "__name__", "") in self._RANDOM:
            return (kwargs or {}).get("tensor", args[0] if args else None)
        return func(*args, **(kwargs or {}))
