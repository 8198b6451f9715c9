"""Two places that graphs come from: exported files, and weightless graphs with a model directory's own weights.

Every file is compared with the hash that its manifest gives before what it says is used. Imports no torch.

Shapes: B picture or text, L token, U row of the table of token embeddings, C its width, H/W pixel.
"""

import hashlib
import math
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from clippy_core.errors import CheckpointError, DataError
from clippy_core.model.config import ModelConfig
from clippy_core.model.directory import (
    CONFIG,
    TOKENIZER,
    WEIGHTS,
    read_config,
    read_json,
    read_manifest,
    sha256,
    verify,
)
from clippy_core.model.graphs import Graph
from clippy_core.model.onnx_engine import session_options
from clippy_core.model.stored import StoredWeights
from clippy_core.model.tokenizer import Tokenizer

DOCUMENT = "onnx.json"
FORMAT = 1
PRECISIONS = ("fp32", "fp16", "int8")
VISION, TEXT = "vision.onnx", "text.onnx"


class ExportedTowers:
    """What ``clippy export onnx`` wrote; see :class:`~clippy_core.model.onnx_engine.Towers`.

    Args:
        path: Its folder.

    Raises:
        CheckpointError: A file is missing, damaged, of a later format, or not what it claims to be.
        DataError: The folder was exported without one of the parts that segmenting needs.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        document = read_json(path / DOCUMENT)
        if document.get("format") != FORMAT:
            raise CheckpointError(
                f"{path / DOCUMENT}: format {document.get('format')!r}; this version reads format {FORMAT}"
            )
        files = document.get("files")
        self._files: dict[str, Any] = files if isinstance(files, dict) else {}
        for name in (VISION, TEXT):
            if name not in self._files:
                raise DataError(f"{path}: exported without {name}; export it with `--parts vision,text`")
        for name in (CONFIG, TOKENIZER):
            self._check(name)
        self.config = read_config(path)
        try:
            self.stride, scale = int(document["stride"]), float(document["logit_scale"])
            self.precision = str(document["precision"])
            hashes = [self._files[name]["sha256"] for name in (VISION, TEXT)]
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{path / DOCUMENT}: lacks what a model needs ({error})") from error
        if self.precision not in PRECISIONS or self.stride < 1:
            raise CheckpointError(
                f"{path / DOCUMENT}: precision {self.precision!r} or stride {self.stride} is not known"
            )
        self.logit_scale = min(scale, 100.0)
        self.identity = _digest(*hashes, sha256(path / TOKENIZER))

    def tokenizer(self) -> Tokenizer:
        """The tokenizer."""
        return Tokenizer(self._path / TOKENIZER, self.config.text.max_tokens)

    def vision(self) -> Callable[[np.ndarray], list[np.ndarray]]:
        """The graph for pictures."""
        session = self._open(VISION)
        return lambda pixels_B3HW: session.run(["patches", "pooled"], {"pixels": pixels_B3HW})

    def text(self) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
        """The graph for texts."""
        session = self._open(TEXT)
        return lambda ids_BL, mask_BL: session.run(["embeddings"], {"ids": ids_BL, "mask": mask_BL})[0]

    def _open(self, name: str) -> Any:
        self._check(name)
        for data in sorted(self._files):
            # Weights above the format's limit of 2 GB lie in files of their own.
            if data.startswith(f"{name}."):
                self._check(data)
        return _session(self._path / name)

    def _check(self, name: str) -> None:
        file, listed = self._path / name, self._files.get(name)
        if not file.is_file():
            raise CheckpointError(f"{file}: missing; an exported model must have it")
        if isinstance(listed, dict) and sha256(file) != listed.get("sha256"):
            raise CheckpointError(f"{file}: SHA-256 differs from {DOCUMENT}; the file is damaged, export it again")


class PackagedTowers:
    """Graphs of the package with the weights of a model directory; see :class:`~.onnx_engine.Towers`.

    The directory's hashes are computed beside what else there is to do until :meth:`vision` returns.

    Args:
        path: The model directory.
        graph: The graphs that fit it.

    Raises:
        CheckpointError: The directory does not match its manifest, or its weights do not fit the graphs.
    """

    precision = "fp32"

    def __init__(self, path: Path, graph: Graph) -> None:
        self._path, self._graph = path, graph
        beside = ThreadPoolExecutor(1)
        self._verified: Future[None] = beside.submit(verify, path)
        beside.shutdown(wait=False)
        self.stride = graph.stride
        self.config: ModelConfig = self._then(lambda: read_config(path))
        self._stored: StoredWeights = self._then(lambda: StoredWeights(path / WEIGHTS))
        self._then(lambda: graph.require_fit(self._stored, self.config))
        self.logit_scale = min(math.exp(float(self._stored.read("logit_scale"))), 100.0)
        files = read_manifest(path)
        self.identity = _digest(*(files.get(name, {}).get("sha256", "") for name in (CONFIG, WEIGHTS, TOKENIZER)))

    def tokenizer(self) -> Tokenizer:
        """The tokenizer."""
        return Tokenizer(self._path / TOKENIZER, self.config.text.max_tokens)

    def vision(self) -> Callable[[np.ndarray], list[np.ndarray]]:
        """The graph for pictures."""
        session = self._then(lambda: self._open("vision"))
        return lambda pixels_B3HW: session.run(["patches", "pooled"], {"pixels": pixels_B3HW})

    def text(self) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
        """The graph for texts; its token embeddings are unpacked row by row, as texts need them."""
        session, table = self._open("text"), self._graph.table

        def run(ids_BL: np.ndarray, mask_BL: np.ndarray) -> np.ndarray:
            used_U, row_BL = np.unique(ids_BL, return_inverse=True)
            rows_UC = self._stored.read(table, used_U)
            given = {"ids": row_BL.reshape(ids_BL.shape), "mask": mask_BL, table: rows_UC}
            return session.run(["embeddings"], given)[0]

        return run

    def _then(self, step: Callable[[], Any]) -> Any:
        """Do a step; whatever goes wrong in it, files that are not what the manifest says are the first to blame."""
        try:
            done = step()
        except Exception:
            self._verified.result()
            raise
        if self._verified.done():
            self._verified.result()
        return done

    def _open(self, part: str) -> Any:
        from onnxruntime import OrtValue

        names = [name for name in self._graph.weights[part] if name != self._graph.table]
        values = [OrtValue.ortvalue_from_numpy(self._stored.read(name)) for name in names]
        options = session_options()
        options.add_external_initializers(names, values)
        session = _session(self._graph.folder / f"{part}.onnx", options)
        self._verified.result()
        return session


def _session(path: Path, options: Any = None) -> Any:
    from onnxruntime import InferenceSession
    from onnxruntime.capi import onnxruntime_pybind11_state as kinds  # pyright: ignore[reportAttributeAccessIssue]

    errors = (kinds.Fail, kinds.InvalidArgument, kinds.InvalidGraph, kinds.InvalidProtobuf, kinds.NoSuchFile)
    try:
        return InferenceSession(str(path), options or session_options(), providers=["CPUExecutionProvider"])
    except (*errors, kinds.NotImplemented, kinds.RuntimeException) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{path}: ONNX Runtime cannot run it ({reason})") from error


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
