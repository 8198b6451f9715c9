"""From what the user names to one source of samples."""

import glob
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clippy_core.errors import DataError, UsageError
from clippy_core.training.config import DataConfig
from clippy_core.training.data import Sample, Source
from clippy_core.training.data.captions import shown
from clippy_core.training.data.order import generator_of
from clippy_core.training.data.shard_lists import Shard, braces, is_address, read_shard_list, with_counts_beside

ACCEPTED = (
    "webdataset shards (.tar, with braces or globs), a shard list (.json), pipe: commands, http(s) addresses, a .csv "
    "or .tsv table, a folder of shards or of pictures with captions, or shapes"
)
SHAPES_AN_EPOCH = 20_000


def open_source(config: DataConfig) -> Source:
    """Everything that ``config.sources`` names, as one source.

    Raises:
        UsageError: An entry that is nothing of what is accepted.
        DataError: Something does not exist, or holds no usable sample; with ``config.strict`` also the first thing
            that is found wrong.
    """
    shards: list[Shard] = []
    opened: list[Source | None] = []
    for entry in config.sources:
        for item in _items(entry):
            if isinstance(item, Shard):
                if not shards:
                    opened.append(None)
                shards.append(item)
            else:
                opened.append(_open(item, config))
    if shards:
        from clippy_core.training.data.shards import ShardSource

        opened[opened.index(None)] = ShardSource(shards, config)
    parts = [source for source in opened if source is not None]
    source = parts[0] if len(parts) == 1 else Joined(parts)
    if config.strict and source.problems():
        raise DataError(f"{source.problems()[0]} (data.strict is on)")
    return source if config.samples in (None, len(source)) else Limited(source, config.samples)


def _items(entry: str) -> Iterator[Shard | str]:
    """The shards that an entry means, or the one table, folder or name."""
    if entry == "shapes":
        yield entry
        return
    names = [entry] if Path(entry).exists() else braces(entry)
    paths: list[str] = []
    for name in names:
        if is_address(name) or Path(name).exists():
            paths.append(name)
        elif name.endswith(".tar") and len(names) > 1 and not glob.has_magic(name):
            paths.append(name)  # one of several that is missing is counted
        elif not glob.has_magic(name):
            raise DataError(f"{shown(name)}: does not exist; accepted: {ACCEPTED}")
        elif found := sorted(glob.glob(name, recursive=True)):
            paths += found
        else:
            raise DataError(f"{shown(name)}: no file matches")
    shards: list[Shard] = []
    for path in paths:
        kind = _kind(path)
        if kind == "list":
            shards += read_shard_list(path)
        elif kind == "shard":
            shards.append(Shard(path))
        elif kind == "shards":
            shards += [Shard(str(shard)) for shard in sorted(Path(path).glob("*.tar"))]
        else:
            yield path
    yield from with_counts_beside(shards)


def _kind(path: str) -> str:
    """What a path or address is: ``shard``, ``shards`` (a folder of them), ``list``, ``table`` or ``folder``."""
    suffix = Path(path.partition("?")[0]).suffix.lower()
    if is_address(path):
        return "list" if suffix == ".json" and not path.startswith("pipe:") else "shard"
    if Path(path).is_dir():
        return "shards" if next(Path(path).glob("*.tar"), None) else "folder"
    kind = {".tar": "shard", ".json": "list", ".csv": "table", ".tsv": "table"}.get(suffix)
    if kind is None:
        packed = suffix in (".gz", ".tgz", ".bz2", ".xz", ".zst")
        hint = "; a compressed shard has to be unpacked, as in 'pipe:gzip -dc FILE'" if packed else ""
        raise UsageError(f"{shown(path)}: not a kind of training data{hint}; accepted: {ACCEPTED}")
    return kind


def _open(item: str, config: DataConfig) -> Source:
    if item == "shapes":
        from clippy_core.training.data.shapes import ShapesSource

        return ShapesSource(config.samples or SHAPES_AN_EPOCH, min(512, max(32, config.size or 64)))
    if Path(item).is_dir():
        from clippy_core.training.data.folders import FolderSource

        return FolderSource(item)
    from clippy_core.training.data.tables import TableSource

    return TableSource(item, config.image_column, config.caption_column)


@dataclass(frozen=True)
class Joined:
    """Several sources as one. They are mixed evenly, each in its own order, so that shards are still read in turn.

    Number ``n`` of source ``i`` of ``k`` is ``n·k + i`` here, because numbers of ``shapes`` go on from epoch to epoch.
    """

    sources: Sequence[Source]

    def __len__(self) -> int:
        return sum(map(len, self.sources))

    def order(self, epoch: int, seed: int) -> np.ndarray:
        """See :class:`Source`."""
        count = len(self.sources)
        turns = np.repeat(np.arange(count, dtype=np.int32), list(map(len, self.sources)))
        turns = generator_of(seed, epoch, 2).permutation(turns)
        order = np.empty(len(turns), np.int64)
        for index, source in enumerate(self.sources):
            order[turns == index] = source.order(epoch, seed) * count + index
        return order

    def read(self, number: int) -> Sample:
        """See :class:`Source`."""
        inner, index = divmod(number, len(self.sources))
        return self.sources[index].read(inner)

    def counts(self) -> dict[str, int]:
        """See :class:`Source`."""
        total: dict[str, int] = {}
        for source in self.sources:
            for name, count in source.counts().items():
                total[name] = total.get(name, 0) + count
        return total

    def problems(self) -> list[str]:
        """See :class:`Source`."""
        return [line for source in self.sources for line in source.problems()]


@dataclass(frozen=True)
class Limited:
    """Epochs of some samples of a source, other ones each time."""

    source: Source
    samples: int

    def __len__(self) -> int:
        return min(self.samples, len(self.source))

    def order(self, epoch: int, seed: int) -> np.ndarray:
        """See :class:`Source`."""
        return self.source.order(epoch, seed)[: len(self)]

    def read(self, number: int) -> Sample:
        """See :class:`Source`."""
        return self.source.read(number)

    def counts(self) -> dict[str, int]:
        """See :class:`Source`."""
        return self.source.counts()

    def problems(self) -> list[str]:
        """See :class:`Source`."""
        if len(self.source) >= self.samples:
            return self.source.problems()
        few = f"data.samples asks for {self.samples:,} samples in an epoch; there are only {len(self.source):,}"
        return [*self.source.problems(), few]
