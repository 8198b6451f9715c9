"""Any folder with a folder of pictures a class: zero-shot classification.

Layout, below DIR, and with a split below the folder of its name: ``CLASS/picture.jpg``, in folders of folders too.
What the classes are called:

- by ``DIR/labels.txt``, if it is there: one class a line, synonyms after ``|``. Where folders are numbers, they count
  lines from 0; where folders are called like a label or a synonym, that is theirs; else there must be as many lines as
  folders, in the order of the folders' names; a folder without a picture counts only there;
- by ImageNet's names, if all folders are called after WordNet ids of its 1000 classes;
- else by the folders' names, with spaces for underscores.

Only the classes of the folders, or of ``labels.txt``, are candidates.
"""

from collections.abc import Iterator
from pathlib import Path

from clippy_core.errors import DataError
from clippy_core.evaluation.benchmarks import BenchmarkOptions, Report
from clippy_core.evaluation.layout import entries, wrong_folder
from clippy_core.evaluation.vocabulary.imagenet import classes, index_of_wnid
from clippy_core.evaluation.zero_shot.dataset import ClassificationSet, LabelledPicture
from clippy_core.evaluation.zero_shot.report import report
from clippy_core.images import SUFFIXES
from clippy_core.prompts import Label, read_labels
from clippy_core.segmentation.segmenter import Segmenter

LABELS = "labels.txt"
TREE = "CLASS/picture.jpg, a folder a class; with labels.txt or without"


def read(data: Path, *, split: str | None = None) -> ClassificationSet:
    """The data set.

    Args:
        data: Its folder.
        split: Name of a folder in it that has the folders of classes; None if it has them itself.

    Raises:
        DataError: No folder of pictures, or folders and labels that do not fit each other.
        UsageError: Labels that cannot be understood.
    """
    root = data / split if split else data
    folders = [path for path in entries(root) if path.is_dir() and path.name[0] != "."] if root.is_dir() else []
    pictures = {folder: list(_pictures(folder)) for folder in folders}
    if not any(pictures.values()):
        tree = f"{split}/{TREE}" if split else TREE
        missing = "folders with pictures" if root.is_dir() else f"the folder {split}"
        raise wrong_folder(data, "pictures in a folder a class", tree, missing=missing, looked_at=_there(root, data))
    filled = [folder for folder in folders if pictures[folder]]
    listed = data / LABELS
    if listed.is_file():
        labels = read_labels(listed)
        index_of, source = _match(folders, filled, labels, listed)
    else:
        labels, source = _labels_of(filled)
        index_of = {folder: index for index, folder in enumerate(filled)}
    found = [LabelledPicture(path, index) for folder, index in index_of.items() for path in pictures[folder]]
    empty = len(labels) - len({picture.label for picture in found})
    notes = (f"{empty} of {len(labels):,} classes have no picture",) if empty else ()
    return ClassificationSet(
        "image-folder", split or "all", root, labels, tuple(found), f"CLASS/*, names from {source}", notes
    )


def _there(root: Path, data: Path) -> Path:
    return root if root.is_dir() else data


def _pictures(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in SUFFIXES and path.name[0] != "." and path.is_file():
            yield path


def _match(
    folders: list[Path], filled: list[Path], labels: tuple[Label, ...], listed: Path
) -> tuple[dict[Path, int], str]:
    """The line of each folder that has pictures, and how it was found.

    Raises:
        DataError: There is no way to find it, or two folders have one line.
    """
    lines = {_plain(word): index for index, label in enumerate(labels) for word in label.words}
    if all(folder.name.isascii() and folder.name.isdecimal() for folder in filled):
        found = {folder: int(folder.name) for folder in filled}
        source = f"{LABELS}, folders are numbers of lines from 0"
        wrong = next((folder for folder, index in found.items() if index >= len(labels)), None)
        if wrong is not None:
            raise DataError(f"{listed}: {len(labels)} labels, but there is a folder {wrong.name}, counted from 0")
    elif any(_plain(folder.name) in lines for folder in filled):
        stranger = next((folder.name for folder in filled if _plain(folder.name) not in lines), None)
        if stranger is not None:
            raise DataError(f"{listed}: no label is called like the folder {stranger!r}, as for the other folders")
        found = {folder: lines[_plain(folder.name)] for folder in filled}
        source = f"{LABELS}, folders are called like labels"
    elif len(folders) == len(labels):
        found = {folder: index for index, folder in enumerate(folders) if folder in filled}
        source = f"{LABELS}, in the order of the folders' names"
    else:
        raise DataError(
            f"{listed}: {len(labels)} labels, none called like one of the {len(folders)} folders; accepted: labels "
            "called like the folders, or a label for each folder in the order of their names"
        )
    if len(set(found.values())) < len(found):
        index = next(index for index in found.values() if list(found.values()).count(index) > 1)
        twice = [folder.name for folder, value in found.items() if value == index]
        raise DataError(f"{listed}: {' and '.join(twice)} are one label, {labels[index].name!r}")
    return found, source


def _labels_of(folders: list[Path]) -> tuple[tuple[Label, ...], str]:
    """Names of the classes from the folders.

    Raises:
        DataError: Two folders have the same name when it is put into words.
    """
    if all(folder.name in index_of_wnid() for folder in folders):
        names = [classes()[index_of_wnid()[folder.name]].name for folder in folders]
        return tuple(Label(name, (name,)) for name in names), "ImageNet's by WordNet id"
    seen: dict[str, Path] = {}
    for folder in folders:
        other = seen.setdefault(_plain(folder.name), folder)
        if other != folder:
            raise DataError(f"{folder}: the same name as {other.name!r}, so the two classes cannot be told apart")
    names = [" ".join(folder.name.replace("_", " ").split()) for folder in folders]
    return tuple(Label(name, (name,)) for name in names), "the folders' names"


def _plain(name: str) -> str:
    return " ".join(name.replace("_", " ").split()).casefold()


def run(segmenter: Segmenter, data: Path, options: BenchmarkOptions) -> Report:
    """Top-1 and top-5; raises as :func:`read` and ``zero_shot.report``."""
    return report(segmenter, read(data, split=options.split), options)
