"""Which pictures a run is about, and where the outputs of each go."""

import glob
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from clippy_core.errors import DataError, UsageError
from clippy_core.images import SUFFIXES

STDIN = "-"


@dataclass(frozen=True)
class Input:
    """One picture of a run.

    Attributes:
        source: Its path as reached from what the user gave, or ``"-"`` for standard input.
        stem: Where its outputs go, relative to the output folder, without a suffix.
    """

    source: str
    stem: Path


def find_inputs(given: Sequence[str], out: Path) -> list[Input]:
    """Every picture among files, folders, glob patterns and ``-``, in a stable order, each once.

    A folder is searched to the bottom for files with a picture's suffix; hidden files, the output folder and folders
    already seen through another link are passed over. Its tree is mirrored. A file named by itself is taken whatever
    its suffix, even if it does not exist, so that the run can report it. Two inputs whose outputs would coincide keep
    their suffix (``img.jpg``, ``img.png``), and a number where that is not enough.

    Raises:
        UsageError: Nothing was given, or ``-`` more than once.
        DataError: A folder or a pattern without a picture.
    """
    if not given:
        raise UsageError("no input was given; accepted: images, folders, glob patterns, - for standard input")
    if list(given).count(STDIN) > 1:
        raise UsageError("standard input (-) can be read only once")
    found: dict[str, Path] = {}
    for text in given:
        for source, relative in _expand(text, out):
            found.setdefault(source, relative)
    return list(_without_collisions(found))


def _expand(text: str, out: Path) -> Iterator[tuple[str, Path]]:
    path = Path(text)
    if text == STDIN:
        yield STDIN, Path("stdin.")
    elif path.is_dir():
        files = list(_pictures_below(path, out))
        if not files:
            raise DataError(f"{text}: no picture in this folder (looked for {', '.join(sorted(SUFFIXES))})")
        yield from ((str(file), file.relative_to(path)) for file in files)
    elif glob.has_magic(text) and not path.exists():
        yield from _matches(text, out)
    else:
        yield text, Path(path.name)


def _matches(pattern: str, out: Path) -> Iterator[tuple[str, Path]]:
    root = Path(*_fixed_part(Path(pattern).parts))
    matches = sorted(Path(match) for match in glob.glob(pattern, recursive=True))
    files = [
        match for match in matches if match.is_file() and match.suffix.lower() in SUFFIXES and not _inside(match, out)
    ]
    if not files:
        raise DataError(f"{pattern}: no picture matches this pattern")
    for file in files:
        yield str(file), file.relative_to(root)


def _fixed_part(parts: Iterable[str]) -> Iterator[str]:
    for part in parts:
        if glob.has_magic(part):
            return
        yield part


def _pictures_below(folder: Path, out: Path) -> Iterator[Path]:
    seen: set[tuple[int, int]] = set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        status = os.stat(parent)
        if (status.st_dev, status.st_ino) in seen or _same(Path(parent), out):
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES:
                yield Path(parent, name)


def _same(a: Path, b: Path) -> bool:
    return b.exists() and a.resolve() == b.resolve()


def _inside(file: Path, folder: Path) -> bool:
    return folder.resolve() in file.resolve().parents


def _without_collisions(found: dict[str, Path]) -> Iterator[Input]:
    stems = Counter(relative.with_suffix("") for relative in found.values())
    taken: set[Path] = set()
    for source, relative in found.items():
        stem = relative.with_suffix("") if stems[relative.with_suffix("")] == 1 else relative
        number, candidate = 2, stem
        while candidate in taken:
            candidate, number = stem.with_name(f"{stem.name}-{number}"), number + 1
        taken.add(candidate)
        yield Input(source, candidate)
