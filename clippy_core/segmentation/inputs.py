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
    already seen through another link are passed over; one that cannot be opened is itself an input, which will fail.
    The tree is mirrored. A file named by itself is taken whatever its suffix, even if it does not exist, so that the
    run can report it. Two inputs whose outputs would coincide keep their suffix (``img.jpg``, ``img.png``), and a
    number where that is not enough.

    Raises:
        UsageError: Nothing was given, an empty text, ``-`` more than once, or the output folder.
        DataError: A folder or a pattern without a picture.
    """
    if not given or not all(given):
        raise UsageError("no input was given; accepted: images, folders, glob patterns, - for standard input")
    if list(given).count(STDIN) > 1:
        raise UsageError("standard input (-) can be read only once")
    found: dict[tuple[bool, Path], tuple[str, Path]] = {}
    for text in given:
        for source, relative in _expand(text, out):
            found.setdefault((source == STDIN, Path(source)), (source, relative))
    return list(_without_collisions(dict(found.values())))


def _expand(text: str, out: Path) -> Iterator[tuple[str, Path]]:
    path = Path(text)
    if text == STDIN:
        yield STDIN, Path("stdin")
    elif _is_folder(path):
        if _same(path, out):
            raise UsageError(f"{text}: this folder is also the output folder; give another with --out")
        files = list(_pictures_below(path, out))
        if not files:
            raise DataError(f"{text}: no picture in this folder (looked for {', '.join(sorted(SUFFIXES))})")
        # The folder itself is among them if it cannot be opened.
        yield from ((str(file), file.relative_to(path) if file != path else Path(path.name)) for file in files)
    elif glob.has_magic(text) and not _exists(path):
        yield from _matches(text, out)
    else:
        yield text, Path(path.name)


def _matches(pattern: str, out: Path) -> Iterator[tuple[str, Path]]:
    root = Path(*_fixed_part(Path(pattern).parts))
    # Where a pattern points below the output folder by itself, what lies there is meant.
    below_out = _same(root, out) or _inside(root, out)
    files = [
        match
        for match in sorted(Path(match) for match in glob.glob(pattern, recursive=True))
        if match.suffix.lower() in SUFFIXES and not match.is_dir() and (below_out or not _inside(match, out))
    ]
    if not files:
        raise DataError(f"{pattern}: no picture matches this pattern")
    for file in files:
        relative = file.relative_to(root)
        yield str(file), Path(file.name) if ".." in relative.parts else relative


def _fixed_part(parts: Iterable[str]) -> Iterator[str]:
    for part in parts:
        if glob.has_magic(part):
            return
        yield part


def _pictures_below(folder: Path, out: Path) -> Iterator[Path]:
    seen: set[tuple[int, int]] = set()
    closed: list[str] = []
    for parent, folders, files in os.walk(
        folder, followlinks=True, onerror=lambda error: closed.append(error.filename)
    ):
        try:
            status = os.stat(parent)
        except OSError:  # taken away while we looked
            closed.append(parent)
            folders.clear()
            continue
        if (status.st_dev, status.st_ino) in seen or _same(Path(parent), out):
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES:
                yield Path(parent, name)
    # A folder that cannot be opened may hide pictures; reading it as one makes it a failed line instead of silence.
    yield from map(Path, closed)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a name that is too long, a parent that may not be entered: reading it will say which
        return False


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return True


def _same(a: Path, b: Path) -> bool:
    return b.exists() and a.resolve() == b.resolve()


def _inside(file: Path, folder: Path) -> bool:
    # Unlike Path.resolve, realpath also has an answer for a link to itself.
    return Path(os.path.realpath(folder)) in Path(os.path.realpath(file)).parents


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
