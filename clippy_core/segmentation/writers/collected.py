"""Files that cover a whole run, made of what each of its pictures left."""

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, overload

from clippy_core.segmentation.writers import FRAGMENTS, WRITERS

if TYPE_CHECKING:
    from clippy_core.segmentation.batch.manifest import Record


def collect(out: Path, writers: Sequence[str], records: "Sequence[Record]") -> list[Path]:
    """Write the files that cover a run: ``coco.json``, ``summary.csv`` and those of third-party writers.

    Called once, when every picture of the run is done, whoever did it. The same pictures give the same bytes, however
    many processes or attempts there were.

    Args:
        out: The output folder.
        writers: Names of the outputs of the run.
        records: What became of each input; pictures that failed are left out.

    Returns:
        The files written, in the order of ``writers``.

    Raises:
        DataError: A fragment is missing or damaged.
        OSError: A file cannot be written.
    """
    files: list[Path] = []
    for name in writers:
        merge = getattr(WRITERS.load(name), "collect", None)
        if merge is not None:
            fragments = Fragments(out, name, records)
            files += merge(out, fragments)
    return files


class Fragments(Sequence[Path]):
    """What the pictures of a run left for one writer, in the order of the paths.

    Only the paths are kept, not what they hold; a fragment that two records name is there once.
    """

    def __init__(self, out: Path, writer: str, records: "Sequence[Record]") -> None:
        self._out = out
        self._names = sorted({name for record in records for name in record.outputs if _belongs(name, writer)})

    def __len__(self) -> int:
        return len(self._names)

    def __iter__(self) -> Iterator[Path]:
        return (self._out / name for name in self._names)

    @overload
    def __getitem__(self, index: int) -> Path: ...
    @overload
    def __getitem__(self, index: slice) -> list[Path]: ...
    def __getitem__(self, index: int | slice) -> Path | list[Path]:
        if isinstance(index, slice):
            return [self._out / name for name in self._names[index]]
        return self._out / self._names[index]


def _belongs(output: str, writer: str) -> bool:
    # Most outputs are no fragments; the cheap test comes first.
    return FRAGMENTS in output and PurePosixPath(output).parts[-3:-1] == (FRAGMENTS, writer)
