"""Which shards there are and how many samples each should have.

How many is said by webdataset's index (``{"shardlist": [{"url", "nsamples"}, …]}``), or by what img2dataset leaves
beside the shards: ``sizes.json`` (``{"00000.tar": 9832, …}``) and ``00000_stats.json`` (``"successes"``).
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

from clippy_core.errors import DataError, UsageError
from clippy_core.files import write_json
from clippy_core.training.data.captions import shown

ADDRESSES = ("pipe:", "http://", "https://")
LARGEST_LIST = 256 << 20
INDEX_NAME = "index.json"


@dataclass(frozen=True)
class Shard:
    """A tar file of samples.

    Attributes:
        url: A path, an ``http(s)`` address, or ``pipe:`` and a command that writes the file.
        samples: How many it should have, if somebody says so.
        size: How many bytes it should have, if somebody says so.
    """

    url: str
    samples: int | None = None
    size: int | None = None

    @property
    def name(self) -> str:
        """The path or command, or the address without query and password, on one line."""
        if self.url.startswith("pipe:") or not is_address(self.url):
            return shown(self.url)
        parts = urlsplit(self.url)
        return shown(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}")


def is_address(name: str) -> bool:
    """Whether it has to be fetched."""
    return name.startswith(ADDRESSES)


def braces(entry: str) -> list[str]:
    """``shards/{00..03}.tar`` as four names, with webdataset's own rules.

    ``::`` between entries and ``${NAME}`` for the variable ``WDS_NAME`` are part of them.

    Raises:
        UsageError: Braces that cannot be expanded, or a variable that is not set.
    """
    from webdataset.shardlists import expand_urls

    try:
        return expand_urls(entry)
    except (ValueError, AssertionError) as error:
        raise UsageError(f"{shown(entry)}: cannot be expanded ({shown(str(error))})") from error


def read_shard_list(place: str) -> list[Shard]:
    """The shards of a list; relative ones lie beside it.

    Raises:
        DataError: It cannot be read, or is not a list of shards.
    """
    document = _read_json(place)
    entries = document.get("shardlist") if isinstance(document, dict) else document
    if not isinstance(entries, list) or not entries:
        found = f" with {', '.join(map(shown, sorted(document)[:5]))}" if isinstance(document, dict) else ""
        raise DataError(
            f'{shown(place)}: a shard list {{"shardlist": [{{"url", "nsamples"}}, …]}} is expected, not '
            f"{type(document).__name__}{found}"
        )
    return [_shard_of(entry, place) for entry in entries]


def with_counts_beside(shards: Iterable[Shard]) -> list[Shard]:
    """Shards with the number of samples that files beside them say, where nothing else has said it."""
    return [
        shard
        if shard.samples is not None or is_address(shard.url)
        else replace(shard, samples=_count_beside(Path(shard.url)))
        for shard in shards
    ]


def write_index(shards: Sequence[str], target: str | Path) -> Path:
    """Write webdataset's index of local shards: numbers of complete samples, and sizes in bytes.

    Args:
        shards: Paths; in the index they are relative to its folder where they lie below it.
        target: The index, or the folder for ``index.json``.

    Raises:
        DataError: A shard that is damaged or has no samples: an index is made of sound ones.
        OSError: The index cannot be written.
    """
    from clippy_core.training.data.shard_index import load_index

    target = Path(target) / INDEX_NAME if Path(target).is_dir() else Path(target)
    folder = target.absolute().parent
    entries = []
    for name in shards:
        index = load_index(Path(name))
        if index.fault:
            raise DataError(f"{shown(name)}: {index.fault}")
        path = Path(name).absolute()
        url = str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)
        entries.append({"url": url, "nsamples": len(index), "filesize": path.stat().st_size})
    write_json(target, {"wids_version": 1, "name": folder.name, "shardlist": entries})
    return target


def _read_json(place: str) -> Any:
    try:
        if is_address(place):
            from urllib.request import urlopen

            with urlopen(place, timeout=30) as response:
                data = response.read(LARGEST_LIST + 1)
        else:
            with open(place, "rb") as file:
                data = file.read(LARGEST_LIST + 1)
        if len(data) > LARGEST_LIST:
            raise DataError(f"{shown(place)}: larger than {LARGEST_LIST:,} bytes; not a shard list")
        return json.loads(data)
    except OSError as error:
        raise DataError(f"{shown(place)}: cannot be read ({shown(str(error.strerror or error))})") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{shown(place)}: not JSON ({shown(str(error))})") from error


def _shard_of(entry: Any, place: str) -> Shard:
    url = entry.get("url") if isinstance(entry, dict) else entry
    if not isinstance(url, str) or not url or "\0" in url:
        raise DataError(f'{shown(place)}: every shard needs a "url"; found {shown(repr(entry)[:100])}')
    # A list often comes with somebody's data: it may not name commands, nor from elsewhere files of this machine.
    url = urljoin(place, url) if is_address(place) else url
    if url.startswith("pipe:") or (is_address(place) and not is_address(url)):
        raise DataError(f"{shown(place)}: a shard list may not name {shown(url)[:100]}; give it as a source of its own")
    if not is_address(url):
        url = str(Path(place).parent / url)
    if not isinstance(entry, dict):
        return Shard(url)
    return Shard(url, _number(entry, "nsamples", place), _number(entry, "filesize", place))


def _number(entry: dict[str, Any], name: str, place: str) -> int | None:
    value = entry.get(name)
    if value is None or (type(value) is int and value >= 0):
        return value
    raise DataError(f"{shown(place)}: {name} is {shown(repr(value)[:50])}; a whole number is expected")


def _count_beside(shard: Path) -> int | None:
    stated = _sizes_in(shard.parent).get(shard.name)
    if stated is None:
        stats = shard.with_name(f"{shard.stem}_stats.json")
        document = _read_json(str(stats)) if stats.is_file() else {}
        stated = document.get("successes") if isinstance(document, dict) else None
    return stated if type(stated) is int and stated >= 0 else None


@lru_cache(maxsize=16)
def _sizes_in(folder: Path) -> dict[str, Any]:
    sizes = folder / "sizes.json"
    document = _read_json(str(sizes)) if sizes.is_file() else {}
    return document if isinstance(document, dict) else {}
