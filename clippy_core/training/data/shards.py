"""webdataset shards as a source whose samples are reached by number.

Only the number of samples in each shard stays in memory; the index of a shard and the open file are kept while its turn
lasts. So a worker's memory does not grow with the data.
"""

import os
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clippy_core.errors import DataError
from clippy_core.training.config import DataConfig
from clippy_core.training.data import Sample
from clippy_core.training.data.captions import parse, parse_box, shown
from clippy_core.training.data.decode import LARGEST
from clippy_core.training.data.fetching import Store
from clippy_core.training.data.order import generator_of
from clippy_core.training.data.shard_index import ShardIndex, load_index, open_binary, stamp_of
from clippy_core.training.data.shard_lists import Shard, is_address

MOST_OPEN = 256
"""Shards that a process keeps open."""


@dataclass(frozen=True)
class _Open:
    """A shard in use; the file descriptor is closed with it."""

    descriptor: int
    index: ShardIndex

    def __del__(self) -> None:
        os.close(self.descriptor)


class ShardSource:
    """Samples in tar files.

    Args:
        shards: Which files, and how many samples each should have where that is known.
        config: How many shards are mixed, and the room for fetched ones.

    Raises:
        DataError: Not one shard can be used.
    """

    def __init__(self, shards: list[Shard], config: DataConfig) -> None:
        self._mixed = config.shuffle_shards
        self._store = Store(config.shard_cache_gb)
        self._problems: list[str] = []
        self._partial = 0
        self._stamps: dict[str, tuple[int, int]] = {}
        found = self._look_at(shards)
        self._shards = [shard for shard, count in zip(shards, found, strict=True) if count]
        self._bad = len(shards) - len(self._shards)
        if not self._shards:
            raise DataError(f"none of {len(shards):,} shards can be used; the first: {self._problems[0]}")
        self._starts = np.cumsum([0, *filter(None, found)], dtype=np.int64)
        self._opened: OrderedDict[int, _Open] = OrderedDict()

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_opened": OrderedDict()}

    def counts(self) -> dict[str, int]:
        """See :class:`clippy_core.training.data.Source`."""
        return {
            "samples": len(self),
            "shards": len(self._shards),
            "bad shards": self._bad,
            "partial": self._partial,
        }

    def problems(self) -> list[str]:
        """See :class:`clippy_core.training.data.Source`."""
        return list(self._problems)

    def order(self, epoch: int, seed: int) -> np.ndarray:
        """Shards in random order, and groups of neighbours in that order mixed completely."""
        generator = generator_of(seed, epoch)
        shards = generator.permutation(len(self._shards))
        order = np.empty(len(self), np.int64)
        filled = 0
        for first in range(0, len(shards), self._mixed):
            group = [
                np.arange(int(self._starts[shard]), int(self._starts[shard + 1]))
                for shard in shards[first : first + self._mixed]
            ]
            mixed = generator.permutation(np.concatenate(group))
            order[filled : filled + len(mixed)] = mixed
            filled += len(mixed)
        return order

    def read(self, number: int) -> Sample:
        """See :class:`clippy_core.training.data.Source`."""
        shard = int(np.searchsorted(self._starts, number, "right")) - 1
        row = number - int(self._starts[shard])
        name = self._shards[shard].name
        opened = self._open(shard)
        if row >= len(opened.index):
            raise DataError(f"{name}: sample {row + 1:,} is missing, there are only {len(opened.index):,}")
        key = f"{name}/{opened.index.key(row)}"
        image_at, image_size, caption_at, caption_size = map(int, opened.index.places_N4[row])
        if image_size > LARGEST:
            raise DataError(f"{key}: the image has {image_size:,} bytes; at most {LARGEST:,} are accepted")
        image = _read_at(opened.descriptor, image_at, image_size, key)
        is_json = bool(opened.index.is_json_N[row])
        try:
            said = _read_at(opened.descriptor, caption_at, caption_size, key)
            caption = parse(said, is_json=is_json)
            return Sample(key, image, caption, parse_box(said) if is_json else None)
        except DataError as error:
            raise DataError(f"{key}: {error}") from error

    def _look_at(self, shards: list[Shard]) -> list[int]:
        """How many samples each shard has; 0 for one that cannot be used."""
        found = [0] * len(shards)
        lines: list[list[str]] = [[] for _ in shards]
        # Processes of one run begin at different places, so that they share the work on a first reading.
        for number in np.random.default_rng(os.getpid()).permutation(len(shards)):
            shard = shards[number]
            try:
                found[number] = self._count(shard, lines[number])
            except DataError as error:
                lines[number].append(str(error))
        self._problems += [line for several in lines for line in several]
        return found

    def _count(self, shard: Shard, lines: list[str]) -> int:
        if is_address(shard.url):
            if shard.samples is not None:
                return shard.samples  # believed until it is fetched; a sample that is missing then is counted
            samples, partial, fault = self._store.count(shard.url)
        else:
            index = load_index(Path(shard.url))
            samples, partial, fault = len(index), index.partial, index.fault
            self._stamps[shard.url] = index.stamp
        self._partial += partial
        lines += problems_of(shard, samples, partial, fault, self._stamps.get(shard.url, (None, 0))[0])
        return samples

    def _open(self, shard: int) -> _Open:
        opened = self._opened.get(shard)
        if opened is None:
            opened = self._really_open(self._shards[shard])
            self._opened[shard] = opened
            if len(self._opened) > min(MOST_OPEN, 2 * self._mixed):
                self._opened.popitem(last=False)
        self._opened.move_to_end(shard)
        return opened

    def _really_open(self, shard: Shard) -> _Open:
        if is_address(shard.url):
            return _Open(*self._store.open(shard.url))
        index = load_index(Path(shard.url))
        try:
            opened = _Open(open_binary(Path(shard.url)), index)
        except OSError as error:
            raise DataError(f"{shard.name}: cannot be read ({error.strerror or error})") from error
        if not stamp_of(os.fstat(opened.descriptor)) == index.stamp == self._stamps[shard.url]:
            raise DataError(f"{shard.name}: the file was changed while it was being used")
        return opened


def problems_of(shard: Shard, samples: int, partial: int, fault: str, size: int | None) -> list[str]:
    """What is wrong with a shard, a line each; nothing for a sound one.

    Args:
        shard: With what is stated about it.
        samples: Complete samples found.
        partial: Samples found that lack a picture or a caption.
        fault: What is wrong with the file, or "".
        size: Bytes, if known.
    """
    lines = []
    stated = f" of {shard.samples:,} stated" if shard.samples is not None else ""
    if fault:
        lines.append(f"{shard.name}: {fault}; {samples:,} samples{stated} can be used")
    elif shard.samples is not None and shard.samples != samples:
        lines.append(f"{shard.name}: {samples:,} samples, but {shard.samples:,} are stated")
    if shard.size is not None and size is not None and shard.size != size:
        lines.append(f"{shard.name}: {size:,} bytes, but {shard.size:,} are stated")
    if partial:
        lines.append(f"{shard.name}: {partial:,} samples lack a picture or a caption")
    return lines


def _read_at(descriptor: int, offset: int, size: int, key: str) -> bytes:
    try:
        os.lseek(descriptor, offset, os.SEEK_SET)
        data = os.read(descriptor, size)
    except OSError as error:
        raise DataError(f"{key}: cannot be read ({error.strerror or error})") from error
    if len(data) != size:
        raise DataError(f"{shown(key)}: the file ends in the middle of it")
    return data
