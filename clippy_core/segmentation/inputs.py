"""Which pictures a run is about, and where the outputs of each go."""

import glob
import io
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from clippy_core.errors import DataError, UsageError
from clippy_core.images import SUFFIXES
from clippy_core.segmentation.shards import SUFFIX as SHARD
from clippy_core.segmentation.shards import read_members, safe_path
from clippy_core.segmentation.stems import Stems
from clippy_core.segmentation.walking import absent, inside, is_folder, pictures_below, same

STDIN = "-"
LISTS = frozenset({".txt", ".lst"})
PICTURE, VIDEO = "picture", "video"


@dataclass(frozen=True, slots=True)
class Input:
    """One picture or video of a run.

    Attributes:
        source: Its path as reached from what the user gave, or ``"-"`` for standard input; a picture in a shard is
            ``shard.tar/key.jpg``.
        stem: Where its outputs go, relative to the output folder, without a suffix.
        kind: ``picture`` or ``video``.
        place: The shard, the first byte and the number of bytes of a picture in a shard.
        fault: Why it cannot be used, where that was found while looking for inputs.
    """

    source: str
    stem: Path
    kind: str = PICTURE
    place: tuple[str, int, int] | None = None
    fault: str = ""

    def open(self) -> "str | BinaryIO":
        """What :func:`clippy_core.images.read_picture` takes: a path or a stream.

        Raises:
            DataError: The input has a fault, or standard input is closed or cannot be read.
            OSError: The shard cannot be read.
        """
        if self.fault:
            raise DataError(f"{self.source}: {self.fault}")
        if self.source == STDIN and self.place is None:
            return _standard_input()
        if self.place is None:
            return self.source
        path, offset, size = self.place
        with open(path, "rb") as file:
            file.seek(offset)
            stream = io.BytesIO(file.read(size))
        stream.name = self.source  # what messages call it
        return stream


def _standard_input() -> BinaryIO:
    """What arrives there, under the name that the user gave it."""
    if sys.stdin is None:
        raise DataError(f"{STDIN}: standard input is closed; accepted: a picture from a pipe or a file")
    try:
        stream = io.BytesIO(sys.stdin.buffer.read())
    except OSError as error:
        raise DataError(f"{STDIN}: cannot be read ({error.strerror or error})") from error
    stream.name = STDIN
    return stream


@dataclass(frozen=True, slots=True)
class _Found:
    """An input before collisions are resolved; ``relative`` is the mirrored path with its suffix."""

    source: str
    relative: Path
    kind: str = PICTURE
    place: tuple[str, int, int] | None = None
    fault: str = ""


def find_inputs(given: Sequence[str], out: Path, writers: Sequence[str] = ()) -> list[Input]:
    """Every picture among files, folders, patterns, lists, shards, videos and ``-``, in a stable order, each once.

    - A folder is searched to the bottom for files with a picture's suffix; hidden files, the output folder and folders
      already seen through another link are passed over; one that cannot be opened is itself an input, which will fail.
    - A pattern may have braces (``shards/{00..07}.tar``), stars and question marks.
    - A list (``.txt``, ``.lst`` or ``@FILE``) names one of these a line, from the current folder, or else from the
      list's own. Lists in lists are not followed.
    - A shard (``.tar``) stands for the pictures in it, wherever it is named; what is wrong with it is an input that
      fails.
    - A video is taken where it is named by itself or by a pattern.

    The tree is mirrored: below a folder or the fixed part of a pattern, below a shard's name, and for a line of a list
    as it is written. A file named by itself is taken whatever its suffix, even if it does not exist, so that the run
    can report it. Inputs that would write one file keep their suffix (``img.jpg``, ``img.png``), and get a number where
    that is not enough.

    Args:
        given: What the user gave.
        out: The output folder.
        writers: Names of the outputs, whose endings decide which inputs would write one file.

    Raises:
        UsageError: Nothing was given, an empty text, ``-`` more than once, the output folder, or braces that do not
            close.
        DataError: A folder or a pattern without a picture, or a list that cannot be read or names nothing, and nothing
            else was given; else that is an input that will fail.
    """
    if not given or not all(given):
        raise UsageError(
            "no input was given; accepted: images, folders, glob patterns, lists, shards, videos, - for standard input"
        )
    if list(given).count(STDIN) > 1:
        raise UsageError("standard input (-) can be read only once")
    unique: dict[tuple[bool, Path, int], _Found] = {}
    for text in given:
        for found in _expanded(text, out, alone=len(given) == 1):
            place = -1 if found.place is None else found.place[1]
            unique.setdefault((found.source == STDIN, Path(found.source), place), found)
    return list(_without_collisions(list(unique.values()), out, writers))


def _expanded(text: str, out: Path, *, alone: bool) -> Iterator[_Found]:
    """What one argument stands for; among several, one without a picture is an input that will fail."""
    try:
        yield from _expand(text, out)
    except DataError as error:
        if alone:
            raise
        yield _Found(text, safe_path(text), fault=str(error).removeprefix(f"{text}: "))


def _expand(text: str, out: Path) -> Iterator[_Found]:
    """What one argument stands for."""
    if text == STDIN:
        yield _Found(STDIN, Path("stdin"))
        return
    if text.startswith("@") and absent(Path(text)):
        yield from _listed(Path(text[1:]), out)
        return
    for name in _braces(text):
        path = Path(name)
        if is_folder(path):
            yield from _in_folder(name, out)
        elif path.suffix.lower() in LISTS and not absent(path):
            yield from _listed(path, out)
        elif glob.has_magic(name) and absent(path):
            yield from _matches(name, out)
        else:
            yield from _file(name, Path(path.name))


def _file(source: str, relative: Path) -> Iterator[_Found]:
    """A file: a picture, the pictures of a shard, or a video."""
    from clippy_core.segmentation.video.labelling import is_video

    path = Path(source)
    if path.suffix.lower() == SHARD:
        for member in read_members(path):
            if member.fault:
                yield _Found(source, relative, fault=member.fault)
            else:
                below = relative.with_suffix("") / safe_path(member.name)
                yield _Found(f"{source}/{member.name}", below, place=(source, member.offset, member.size))
    else:
        yield _Found(source, relative, VIDEO if is_video(path) else PICTURE)


def _in_folder(text: str, out: Path) -> Iterator[_Found]:
    path = Path(text)
    if same(path, out):
        raise UsageError(f"{text}: this folder is also the output folder; give another with --out")
    empty = True
    for file in pictures_below(path, out):
        empty = False
        # The folder itself is among them if it cannot be opened.
        yield _Found(str(file), file.relative_to(path) if file != path else Path(path.resolve().name or "root"))
    if empty:
        raise DataError(f"{text}: no picture in this folder (looked for {', '.join(sorted(SUFFIXES))})")


def _listed(path: Path, out: Path) -> Iterator[_Found]:
    """What the lines of a list name."""
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise DataError(f"{path}: the list cannot be read ({error.strerror or error})") from error
    names = [os.fsdecode(line.removesuffix(b"\r")) for line in lines]
    names = [name for name in names if name.strip()]
    if not names:
        raise DataError(f"{path}: the list names no picture; one path a line is expected")
    for name in names:
        beside = path.parent / name
        source = str(beside) if absent(Path(name)) and not absent(beside) else name
        if is_folder(Path(source)):
            for found in _in_folder(source, out):
                yield _Found(found.source, safe_path(name) / found.relative)
        elif "\0" in name:
            yield _Found(name, safe_path(name), fault="a path with a zero byte in it")
        else:
            yield from _file(source, safe_path(name))


def _braces(text: str) -> list[str]:
    """``shards/{00..03}.tar`` as four names; a file that is there is meant as it is written."""
    if "{" not in text or not absent(Path(text)):
        return [text]
    from braceexpand import braceexpand

    try:
        return list(braceexpand(text))
    except ValueError as error:
        raise UsageError(f"{text}: braces that do not close; accepted: photos/{{a,b}}.jpg, {{00..07}}.tar") from error


def _matches(pattern: str, out: Path) -> Iterator[_Found]:
    from clippy_core.segmentation.video.labelling import is_video

    root = Path(*_fixed_part(pattern))
    # Where a pattern points below the output folder by itself, what lies there is meant.
    below_out = same(root, out) or inside(root, out)
    # Videos and shards are taken where the pattern asks for them, not because a star happens to match.
    wanted = Path(pattern).suffix.lower()
    empty = True
    for match in sorted(Path(match) for match in glob.glob(pattern, recursive=True)):
        suffix = match.suffix.lower()
        usable = suffix in SUFFIXES or (suffix == wanted and (suffix == SHARD or is_video(match)))
        if usable and not match.is_dir() and (below_out or not inside(match, out)):
            empty = False
            relative = match.relative_to(root)
            yield from _file(str(match), Path(match.name) if ".." in relative.parts else relative)
    if empty:
        raise DataError(f"{pattern}: no picture matches this pattern")


def _fixed_part(pattern: str) -> Iterator[str]:
    for part in Path(pattern).parts:
        if glob.has_magic(part):
            return
        yield part


def _without_collisions(found: Sequence[_Found], out: Path, writers: Sequence[str]) -> Iterator[Input]:
    stems = Stems([one.relative for one in found], writers, _within(out, found))
    for one in found:
        stem = stems.take(one.relative, video=one.kind == VIDEO)
        yield Input(one.source, stem, one.kind, one.place, one.fault)


def _within(out: Path, found: Sequence[_Found]) -> set[str]:
    """The inputs that lie in the output folder, relative to it."""
    files = [Path(one.source) for one in found if one.place is None and one.source != STDIN]
    below: dict[Path, Path] = {}
    for folder in {file.parent for file in files}:
        with suppress(OSError, RuntimeError, ValueError):  # that of no file, or outside
            below[folder] = folder.resolve().relative_to(out.resolve())
    return {str(below[file.parent] / file.name) for file in files if file.parent in below}
