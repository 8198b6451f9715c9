"""Stored weights as numpy arrays, one by one when they are asked for. Imports no torch.

Storages are those of :mod:`~clippy_core.model.weights`: what is fp16 there, or 8-bit rows with a scale each, comes out
as the same ``float32`` numbers that torch makes of it.
"""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

from clippy_core.errors import CheckpointError

KINDS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1"}
"""Number formats as safetensors names them; that of bf16 has no counterpart in numpy."""


class StoredWeights:
    """The tensors of a safetensors file.

    Args:
        path: The file.

    Attributes:
        names: The tensors, 8-bit rows and their scales as one.

    Raises:
        CheckpointError: The file cannot be read, or is not a safetensors file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._bytes = np.asarray(np.memmap(path, np.uint8, "r"))
            (length,) = struct.unpack("<Q", bytes(self._bytes[:8]))
            if 8 + length > len(self._bytes):
                raise ValueError(f"header of {length:,} bytes announced")
            header = json.loads(bytes(self._bytes[8 : 8 + length]))
            header.pop("__metadata__", None)
            self._raw = {name: self._view(entry, 8 + length) for name, entry in header.items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
            raise CheckpointError(f"{path}: not a readable safetensors file ({error})") from error
        self.names = frozenset(
            name.removesuffix(".int8") for name in self._raw if f"{name.removesuffix('.scale')}.int8" not in self._raw
        )

    def _view(self, entry: dict[str, Any], start: int) -> np.ndarray:
        begin, end = entry["data_offsets"]
        return self._bytes[start + begin : start + end].view(KINDS[entry["dtype"]]).reshape(entry["shape"])

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor."""
        return self._raw[name if name in self._raw else f"{name}.int8"].shape

    def read(self, name: str, rows: np.ndarray | None = None) -> np.ndarray:
        """A tensor, or some rows of it: ``float32`` if it is floating point, else as it is stored."""
        picked: Any = ... if rows is None else rows
        if name in self._raw:
            values = self._raw[name][picked]
            return values.astype(np.float32) if values.dtype.kind == "f" else np.array(values)
        scale = self._raw[f"{name}.scale"][picked].astype(np.float32)
        return np.multiply(self._raw[f"{name}.int8"][picked], scale, dtype=np.float32)
