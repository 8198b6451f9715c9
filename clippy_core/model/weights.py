"""Model directories as tensors: how what is on disk becomes a model, and back.

Tensors are stored in one of three ways: ``fp32``; ``fp16``; or ``compact``, in which matrices of the text encoder are
8-bit integers with one scale a row (``NAME.int8`` and ``NAME.scale``; value = int8 · scale) and the rest is fp16.
All become float32 when loaded. Which files a directory has is said in :mod:`~clippy_core.model.directory`.
"""

import hashlib
import json
import os
import struct
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from clippy_core.errors import CheckpointError, ConfigError, UsageError
from clippy_core.files import atomic_write, to_json
from clippy_core.model.config import ModelConfig
from clippy_core.model.directory import (
    CARD,
    CONFIG,
    FORMAT,
    MANIFEST,
    TOKENIZER,
    WEIGHTS,
    is_file_name,
    read_config,
    verify,
)
from clippy_core.model.dual_encoder import DualEncoder
from clippy_core.model.tokenizer import Tokenizer

STORAGES = ("fp32", "fp16", "compact")
DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""Number formats as safetensors names them."""
ALIGNMENT = 64
"""Bytes; torch allocates memory at multiples of it."""


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
    assign(model, _read_state(path), str(path / WEIGHTS))
    return LoadedModel(model.eval(), Tokenizer(path / TOKENIZER, config.text.max_tokens))


def load_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a model directory as the model uses them, without the model.

    Raises:
        CheckpointError: See :func:`load_directory`.
    """
    verify(path)
    return _read_state(path)


def _read_state(path: Path) -> dict[str, Tensor]:
    return {key: _aligned(tensor) for key, tensor in unpack(read_tensors(path / WEIGHTS)).items()}


def save_directory(
    path: str | os.PathLike[str],
    model: DualEncoder,
    tokenizer_json: bytes,
    card: str,
    *,
    storage: str = "fp32",
    extra: Mapping[str, bytes] | None = None,
) -> list[Path]:
    """Write a model directory.

    All files are written under temporary names before the first takes its own, the manifest last: a full disk leaves
    the previous model as it was, and a crash between two renames leaves a directory that the manifest refuses.
    Weights are written tensor by tensor, so that no second copy of the model is held.

    Args:
        path: The directory; made if missing.
        model: The model; its configuration is written beside it.
        tokenizer_json: Contents of ``tokenizer.json``.
        card: The model card, Markdown with the Hugging Face hub's metadata header.
        storage: ``fp32``, ``fp16`` or ``compact``.
        extra: Contents of further files by name, such as the state of a training run; the manifest lists them too.

    Returns:
        The files written.

    Raises:
        ConfigError: An unknown storage.
        UsageError: A further file with the name of one of the others, or with a name that is a path.
        OSError: The directory or a file in it cannot be written.
    """
    path, extra = Path(path), extra or {}
    for name in extra:
        if not is_file_name(name) or name in (CONFIG, WEIGHTS, TOKENIZER, CARD, MANIFEST):
            raise UsageError(f"a further file of a model directory cannot be called {name!r}")
    _require_storage(storage)
    tied = tied_names(model)
    state = {key: tensor for key, tensor in model.state_dict().items() if key not in tied}
    contents = {
        CONFIG: to_json(model.config.to_dict(), indent=2),
        TOKENIZER: tokenizer_json,
        CARD: card.encode(),
        **extra,
    }
    order = [CONFIG, WEIGHTS, TOKENIZER, CARD, *extra]
    with ExitStack() as files:
        # Files take their names in the reverse of this order.
        opened = {name: _Hashed(files.enter_context(atomic_write(path / name))) for name in (MANIFEST, *order)}
        for name, data in contents.items():
            opened[name].write(data)
        write_tensors(opened[WEIGHTS], state, storage)
        entries = {name: opened[name].entry() for name in order}
        opened[MANIFEST].write(to_json({"format": FORMAT, "files": entries}, indent=2))
        for file in opened.values():
            file.to_disk()
    return [path / name for name in (*order, MANIFEST)]


class _Hashed:
    """A file whose length and SHA-256 are known once it is written."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._hash = hashlib.sha256()

    def write(self, data: Any) -> None:
        self._file.write(data)
        self._hash.update(data)

    def entry(self) -> dict[str, Any]:
        return {"bytes": self._file.tell(), "sha256": self._hash.hexdigest()}

    def to_disk(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())


def write_tensors(file: Any, state: Mapping[str, Tensor], storage: str) -> None:
    """Write tensors to an open file in the safetensors format, one after another as :func:`pack` makes them.

    Raises:
        ConfigError: An unknown storage.
    """
    stored = {
        name: (key, shape)
        for key, tensor in state.items()
        for name, shape in pack({key: torch.empty_like(tensor, device="meta")}, storage).items()
    }
    # Wide numbers first, then those whose length keeps the next tensor aligned, so that few are copied when loaded.
    order = sorted(stored, key=lambda name: _place(stored[name][1], name))
    header: dict[str, Any] = {"__metadata__": {"format": "pt", "storage": storage}}
    end = 0
    for name in order:
        shape = stored[name][1]
        begin, end = end, end + shape.nbytes
        header[name] = {"dtype": DTYPES[shape.dtype], "shape": list(shape.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    file.write(struct.pack("<Q", len(text)) + text)
    for name in order:
        key = stored[name][0]
        tensor = pack({key: state[key].detach().cpu()}, storage)[name]
        file.write(tensor.reshape(-1).view(torch.uint8).numpy())


def _aligned(tensor: Tensor) -> Tensor:
    """The tensor where torch itself would have put it: kernels round differently at other addresses."""
    return tensor.clone() if tensor.data_ptr() % ALIGNMENT else tensor


def _place(tensor: Tensor, name: str) -> tuple[int, bool, str]:
    return -tensor.element_size(), tensor.nbytes % ALIGNMENT != 0, name


def build(config: ModelConfig) -> DualEncoder:
    """A model whose parameters are allocated but not initialised; see :func:`assign`."""
    with skipped_initialisation():
        return DualEncoder(config)


def assign(model: DualEncoder, state: Mapping[str, Tensor], source: str) -> None:
    """Make ``state`` the model's parameters and buffers, exactly.

    A parameter that has several names in the model, as the embedding of T5 has, may come under any of them.

    Raises:
        CheckpointError: A key is missing, extra, misshapen or of another type; one line naming the first few and
            their number.
    """
    state = dict(state)
    tied = tied_names(model)
    for name, first in tied.items():
        if name in state:
            state = {first: state.pop(name), **state}
    expected = {key: tensor for key, tensor in model.state_dict().items() if key not in tied}
    require_fit(expected, state, f"{source}: does not fit {model.config.name!r}")
    model.load_state_dict({**state, **{name: state[first] for name, first in tied.items()}}, strict=True, assign=True)
    for name, first in tied.items():
        module, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(module), leaf, model.get_parameter(first))


def require_fit(expected: Mapping[str, Tensor], state: Mapping[str, Tensor], refusal: str) -> None:
    """Make sure that ``state`` has the names, number formats and shapes of ``expected``.

    Raises:
        CheckpointError: It has not; one line that begins with ``refusal`` and names the first few keys.
    """
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
        raise CheckpointError(f"{refusal}: {'; '.join(problems[:3])}{more}")


def tied_names(model: DualEncoder) -> dict[str, str]:
    """Further names of parameters that have several, each with the first name."""
    first: dict[int, str] = {}
    names = {name: first.setdefault(id(value), name) for name, value in model.named_parameters(remove_duplicate=False)}
    return {name: owner for name, owner in names.items() if name != owner}


def pack(state: Mapping[str, Tensor], storage: str) -> dict[str, Tensor]:
    """Tensors as they are stored; see the module's docstring.

    Raises:
        ConfigError: An unknown storage.
    """
    _require_storage(storage)
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


def _require_storage(storage: str) -> None:
    if storage not in STORAGES:
        raise ConfigError(f"storage is {storage!r}; accepted: {', '.join(STORAGES)}")


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


class skipped_initialisation(TorchFunctionMode):
    """Leaves new parameters unfilled: drawing random numbers that are overwritten at once is time lost."""

    _RANDOM = frozenset({"normal_", "uniform_", "trunc_normal_", "erfinv_"})

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__module__", None) == "torch.nn.init" or getattr(func, "__name__", "") in self._RANDOM:
            return (kwargs or {}).get("tensor", args[0] if args else None)
        return func(*args, **(kwargs or {}))
