"""Features and embeddings of words on disk, so that a second metric on the same pictures costs no second look.

An entry is one ``.npz`` file under the hash of everything it depends on: the weights, what they are computed with, the
file of the picture, its preparation. Numbers are kept as they are, ``float32``: what was read back gives the same
figures. The folder grows up to a limit and then stays as it is, because pictures are looked at in the same order every
time, and whatever made room for the last would be missed by the first.
"""

import hashlib
import json
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from clippy_core.files import atomic_write, remove_leftovers

if TYPE_CHECKING:
    from clippy_core.segmentation.segmenter import Segmenter

CACHE_BYTES = 16 << 30
"""VOC's 1,449 pictures take about 0.9 GB as 196 locations of 768 numbers."""


class FeatureCache:
    """Arrays by key in a folder; several processes may share it.

    Args:
        folder: Made if missing.
        limit: Nothing is added once the files have so many bytes together. Of several processes each counts what was
            there when it began and what it added itself.

    Attributes:
        found: How many entries were there.
        made: How many had to be computed.
        full: Whether an entry was not kept for lack of room.

    Raises:
        OSError: The folder cannot be written.
    """

    def __init__(self, folder: Path, limit: int = CACHE_BYTES) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.limit = limit
        self.found = self.made = 0
        self.full = False
        self.bytes = sum(path.stat().st_size for path in folder.glob("*.npz"))

    def get(self, key: Sequence[Any], compute: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """The arrays under ``key``; computed and kept if they are not there or damaged.

        Args:
            key: What they depend on, as plain data.
            compute: Makes them.
        """
        path = self.folder / f"{hash_key(key)}.npz"
        arrays = read_arrays(path)
        if arrays is not None:
            self.found += 1
            return arrays
        arrays = compute()
        self.made += 1
        size = sum(array.nbytes for array in arrays.values())
        if self.bytes + size > self.limit:
            self.full = True
            return arrays
        write_arrays(path, arrays)
        self.bytes += size
        return arrays

    def remove_leftovers(self) -> None:
        """Delete what killed runs left half-written; for one process, before others write."""
        remove_leftovers(self.folder)


def write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write arrays to an ``.npz`` file atomically; raises :class:`OSError` if that is impossible."""
    save: Any = np.savez  # Its stub takes names of arrays for those of its own arguments.
    with atomic_write(path) as file:
        save(file, **arrays)


def read_arrays(path: Path) -> dict[str, np.ndarray] | None:
    """The arrays of an ``.npz`` file; None if it is not there or damaged."""
    try:
        # Every array in the file has a checksum, which reading it compares.
        with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, NotImplementedError):
        return None


def hash_key(key: Any) -> str:
    """A name for plain data, 32 hexadecimal digits."""
    return hashlib.sha256(json.dumps(key, ensure_ascii=True, default=str).encode()).hexdigest()[:32]


def hash_model(segmenter: "Segmenter") -> str:
    """SHA-256 of a model's configuration and all its numbers, in hexadecimal."""
    import torch

    total = hashlib.sha256(json.dumps(segmenter.config.to_dict(), sort_keys=True).encode())
    for name, tensor in sorted(segmenter.model.state_dict().items()):
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        total.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return total.hexdigest()
