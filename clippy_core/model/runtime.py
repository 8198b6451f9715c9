"""Which engine runs a model, and why. Imports no torch unless torch is what it takes."""

import importlib.util
import os
from pathlib import Path

from clippy_core.errors import CheckpointError, DataError, DeviceError, UsageError
from clippy_core.model.cache import cache_folder
from clippy_core.model.device import check_words, surely_cpu
from clippy_core.model.directory import (
    CONFIG,
    MANIFEST,
    TOKENIZER,
    WEIGHTS,
    read_config,
    read_json,
    read_manifest,
    refuse_exported,
)
from clippy_core.model.engine import Engine
from clippy_core.model.graphs import Graph, find_graph
from clippy_core.model.onnx_engine import OnnxEngine
from clippy_core.model.onnx_towers import DOCUMENT, ExportedTowers, PackagedTowers
from clippy_core.model.presets import find

RUNTIMES = ("auto", "torch", "onnx")


def open_engine(
    model: str | os.PathLike[str],
    *,
    checkpoint: str | os.PathLike[str] | None = None,
    device: str = "auto",
    precision: str = "auto",
    runtime: str = "auto",
) -> Engine:
    """A model, ready to compute.

    ``auto`` takes ONNX Runtime where it is installed, gives the same labels and starts sooner: on the CPU, in fp32, for
    a model that there are graphs for (see :mod:`~clippy_core.model.graphs`) or an exported copy of; and for a folder
    that holds an exported model only. Everything else is torch's, a GPU above all.

    Raises:
        UsageError: An unknown name or word, or a wish that the runtime asked for cannot meet.
        DataError: The path does not exist, or the weights are missing or damaged.
        DeviceError: The device cannot be used, or ONNX Runtime is not installed.
    """
    if runtime not in RUNTIMES:
        raise UsageError(f"--runtime is {runtime!r}; accepted: {', '.join(RUNTIMES)}")
    check_words(device, precision)
    if runtime == "onnx":
        return _onnx(model, checkpoint, device, precision)
    if checkpoint is None:
        path = find(model)
        exported_only = (path / DOCUMENT).is_file() and not (path / WEIGHTS).is_file()
        if exported_only and runtime == "torch":
            refuse_exported(path)
        if exported_only:
            return _onnx(model, checkpoint, device, precision)
        if runtime == "auto" and precision in ("auto", "fp32") and surely_cpu(device) and _installed():
            engine = _packaged(path) or _exported(path, "fp32")
            if engine is not None:
                return engine
    return _torch(model, checkpoint, device, precision)


def copy_folder(path: Path) -> Path:
    """Where an exported copy of a model directory belongs so that it is found: in the cache, by the weights' hash.

    Raises:
        CheckpointError: The directory has no usable manifest.
        UsageError: There is no cache; see :func:`~clippy_core.model.cache.cache_folder`.
    """
    return cache_folder() / "onnx" / _weights_hash(path)


def _torch(
    model: str | os.PathLike[str], checkpoint: str | os.PathLike[str] | None, device: str, precision: str
) -> Engine:
    from clippy_core.model.device import place

    placement = place(device, precision)
    from clippy_core.model.torch_engine import TorchEngine

    if checkpoint is not None:
        from clippy_core.model.convert import load_checkpoint

        return TorchEngine(load_checkpoint(model, checkpoint), placement)
    from clippy_core.model.weights import load_directory

    path = find(model)
    loaded = load_directory(path)
    files = read_manifest(path)
    return TorchEngine(
        loaded, placement, weights=" ".join(files[name]["sha256"] for name in (CONFIG, WEIGHTS, TOKENIZER))
    )


def _onnx(
    model: str | os.PathLike[str], checkpoint: str | os.PathLike[str] | None, device: str, precision: str
) -> Engine:
    """The engine where ``onnx`` was asked for by name, or is the only one that can do it."""
    if checkpoint is not None:
        raise UsageError(
            f"--runtime onnx does not read --checkpoint {checkpoint}; export it first: "
            f"`clippy export onnx --model {model} --checkpoint {checkpoint} --out DIR`"
        )
    if device not in ("auto", "cpu"):
        raise UsageError(f"--device is {device!r}; ONNX Runtime is used on the CPU; accepted with it: auto, cpu")
    path = find(model)
    if not _installed():
        raise DeviceError("--runtime onnx needs ONNX Runtime; install it with `pip install 'clippy-vlm[onnx]'`")
    engine = _exported(path, precision) or (_packaged(path) if precision in ("auto", "fp32") else None)
    if engine is not None:
        return engine
    found = [str(read_json(folder / DOCUMENT).get("precision")) for folder in _folders(path)]
    found += ["fp32"] if _graph(path) else []
    if found:
        raise UsageError(f"--precision is {precision!r}; accepted for this ONNX model: auto, {', '.join(found)}")
    raise DataError(
        f"model {str(model)!r}: there is no exported copy of it; make one with "
        f"`clippy export onnx --model {model} --out {copy_folder(path)}`, or with another --out DIR for --model DIR"
    )


def _packaged(path: Path) -> Engine | None:
    """The engine for a model directory that the package has graphs for."""
    graph = _graph(path)
    return None if graph is None else OnnxEngine(PackagedTowers(path, graph))


def _graph(path: Path) -> Graph | None:
    return find_graph(read_config(path)) if (path / MANIFEST).is_file() else None


def _exported(path: Path, precision: str) -> Engine | None:
    """The engine for exported files of a precision, or any, in a directory or in its copy in the cache."""
    for folder in _folders(path):
        if precision in ("auto", read_json(folder / DOCUMENT).get("precision")):
            return OnnxEngine(ExportedTowers(folder))
    return None


def _folders(path: Path) -> list[Path]:
    """Folders with exported files of the model in ``path``: itself, or its copy in the cache, if of these weights."""
    if (path / DOCUMENT).is_file() and not (path / WEIGHTS).is_file():
        return [path]
    try:
        source, copy = _weights_hash(path), copy_folder(path)
    except (CheckpointError, UsageError):
        return []  # what is wrong with the directory, its own loading says
    found = [folder for folder in (path, copy) if (folder / DOCUMENT).is_file()]
    return [folder for folder in found if read_json(folder / DOCUMENT).get("source_sha256") == source]


def _weights_hash(path: Path) -> str:
    entry = read_manifest(path).get(WEIGHTS)
    found = entry.get("sha256") if isinstance(entry, dict) else None
    if not isinstance(found, str):
        raise CheckpointError(f"{path / MANIFEST}: does not list {WEIGHTS} with its size and SHA-256")
    return found


def _installed() -> bool:
    return importlib.util.find_spec("onnxruntime") is not None
