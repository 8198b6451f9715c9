"""Finding a data set in the folder that was given, and saying what is wrong with a folder that is not one."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from clippy_core.errors import DataError, UsageError
from clippy_core.evaluation.dense.dataset import Example
from clippy_core.evaluation.layout import wrong_folder

SHOWN = 8


@dataclass(frozen=True)
class Layout:
    """How the files of a data set lie.

    Attributes:
        name: What people call the data set, as in *laid out as …*.
        tree: The expected files in words, one line each, for messages.
        needs: Folders and files that must be there, relative to the root; one of several is written ``a|b``.
        below: Folders below the one given that may be the root, such as ``VOCdevkit/VOC2012``.
    """

    name: str
    tree: tuple[str, ...]
    needs: tuple[str, ...]
    below: tuple[str, ...] = ()


def find_root(data: Path, layout: Layout) -> Path:
    """The folder that has what the layout needs: ``data`` itself or one of those below it.

    Raises:
        DataError: There is none; the message shows what is expected, what is missing and what was found.
    """
    if not data.is_dir():
        raise DataError(f"{data}: no such folder; one laid out as {layout.name} is expected")
    candidates = [data, *(data / below for below in layout.below)]
    for root in candidates:
        if not missing_in(root, layout):
            return root
    # What comes closest is most likely what was meant.
    closest = min((root for root in candidates if root.is_dir()), key=lambda root: len(missing_in(root, layout)))
    missing = ", ".join(_either(need) for need in missing_in(closest, layout))
    raise wrong_folder(data, layout.name, "; ".join(layout.tree), missing=missing, looked_at=closest)


def missing_in(root: Path, layout: Layout) -> list[str]:
    """What the layout needs and ``root`` has not."""
    return [need for need in layout.needs if first_of(root, need.split("|")) is None]


def first_of(root: Path, names: Iterable[str]) -> Path | None:
    """The first of several files or folders that is there."""
    return next((root / name for name in names if (root / name).exists()), None)


def choose_classes(classes: int | None, accepted: Sequence[int], benchmark: str) -> int:
    """How many classes: those asked for, or else the first of those accepted.

    Raises:
        UsageError: It is none of those accepted.
    """
    if classes is not None and classes not in accepted:
        listed = ", ".join(map(str, accepted))
        raise UsageError(f"benchmark {benchmark!r} has no protocol of {classes} classes; accepted: {listed}")
    return accepted[0] if classes is None else classes


def choose_split(split: str | None, accepted: Sequence[str], benchmark: str) -> str:
    """Which part of the data set: that asked for, or else the first of those accepted.

    Raises:
        UsageError: It is none of those accepted.
    """
    if split is not None and split not in accepted:
        raise UsageError(f"benchmark {benchmark!r} has no split {split!r}; accepted: {', '.join(accepted)}")
    return accepted[0] if split is None else split


def read_names(path: Path) -> tuple[str, ...]:
    """The names that a list of pictures has, one a line.

    Raises:
        DataError: The list cannot be read, is empty, or has a name twice.
    """
    expected = "expected: text, the name of a picture a line, without its ending"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = "no UTF-8" if isinstance(error, UnicodeDecodeError) else error.strerror
        raise DataError(f"{path}: the list of pictures cannot be read ({why}); {expected}") from error
    names = tuple(line.strip() for line in lines if line.strip())
    if not names:
        raise DataError(f"{path}: the list of pictures is empty; {expected}")
    if len(set(names)) < len(names):
        twice = next(name for index, name in enumerate(names) if name in names[:index])
        raise DataError(f"{path}: {twice!r} is on the list twice")
    return names


def names_of(folders: Iterable[Path], ending: str) -> tuple[str, ...]:
    """Names of the files in any of the folders whose names have this ending, without it, sorted.

    Raises:
        DataError: A folder cannot be listed.
    """
    names = {path.name for folder in folders for path in _entries(folder)}
    return tuple(sorted(name.removesuffix(ending) for name in names if name.endswith(ending) and name[0] != "."))


def check_files(paths: Sequence[Path], what: str) -> None:
    """Make sure that every file is there.

    Args:
        paths: The files.
        what: What they are, in the plural, such as ``masks``.

    Raises:
        DataError: At least one is missing; the first is named.
    """
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise DataError(f"{missing[0]}: no such file; {len(missing):,} of {len(paths):,} {what} are missing")


def check_examples(examples: Sequence[Example], layout: Layout, root: Path) -> tuple[Example, ...]:
    """The examples, if there is one and all their pictures are there; raises as :func:`check_files`."""
    if not examples:
        raise DataError(f"{root}: laid out as {layout.name}, but without a picture; expected: {'; '.join(layout.tree)}")
    check_files([example.image for example in examples], "pictures")
    return tuple(examples)


def note_count(count: int, official: int | None) -> tuple[str, ...]:
    """A note if this is not as many pictures as the split has officially."""
    return () if official in (None, count) else (f"{count:,} pictures; the official split has {official:,}",)


def _either(need: str) -> str:
    """One of several files in words, without those that lie beside the folder."""
    return " or ".join(name for name in need.split("|") if not name.startswith(".."))


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed ({error.strerror})") from error
