"""ImageNet-v2, new pictures of ImageNet's 1000 classes, ten each: zero-shot classification.

Layout, below DIR or ``DIR/imagenetv2-matched-frequency-format-val``: folders ``0`` to ``999`` called after the class
index, pictures ``*.jpeg`` in them. The two other samples of the data set, ``threshold0.7`` and ``top-images``, lie in
folders called likewise; published figures are on ``matched-frequency``.

Source: B. Recht et al., *Do ImageNet Classifiers Generalize to ImageNet?* (arXiv 1902.10811), the data's own folders.
"""

from pathlib import Path

from clippy_core.errors import DataError, UsageError
from clippy_core.evaluation.benchmarks import BenchmarkOptions, Report
from clippy_core.evaluation.layout import entries, folders_in, wrong_folder
from clippy_core.evaluation.vocabulary.imagenet import COUNT, classes
from clippy_core.evaluation.zero_shot.dataset import ClassificationSet, LabelledPicture
from clippy_core.evaluation.zero_shot.report import report
from clippy_core.images import SUFFIXES
from clippy_core.prompts import Label
from clippy_core.segmentation.segmenter import Segmenter

OFFICIAL = 10_000
SAMPLES = ("matched-frequency", "threshold0.7", "top-images")
TREE = "[imagenetv2-matched-frequency-format-val/]0/*.jpeg to 999/*.jpeg, folders called after the class index"


def read(data: Path, *, split: str | None = None) -> ClassificationSet:
    """The data set.

    Args:
        data: Its folder, or the one above.
        split: ``matched-frequency`` (the default), ``threshold0.7`` or ``top-images``.

    Raises:
        DataError: It is not in this folder, or has a folder that is no class.
        UsageError: Another split, or one that the folder's name contradicts.
    """
    if split is not None and split not in SAMPLES:
        raise UsageError(f"the split {split} is unknown to benchmark 'imagenet-v2'; accepted: {', '.join(SAMPLES)}")
    named = next((sample for sample in SAMPLES if f"imagenetv2-{sample}" in data.resolve().name), None)
    if split and named and split != named:
        raise UsageError(f"the split {split} was asked for, but {data} has {named}; give the folder above, or no split")
    sample = split or named or SAMPLES[0]
    folders = folders_in(data, (f"imagenetv2-{sample}-format-val", f"imagenetv2-{sample}", ""))
    for folder in folders:
        numbered = _numbered(folder)
        if numbered:
            return _dataset(sample, folder, numbered)
    raise wrong_folder(
        data, f"ImageNet-v2 ({sample})", TREE, missing="folders 0 to 999", looked_at=folders[0] if folders else None
    )


def _numbered(folder: Path) -> dict[int, Path]:
    """Folders by class index, in the order of numbers: as text, 10 would come before 2."""
    found: dict[int, Path] = {}
    for path in entries(folder):
        if not (path.name.isascii() and path.name.isdecimal()) or not path.is_dir():
            continue
        number = int(path.name)
        if number >= COUNT or number in found:
            reason = f"is class {number} as well" if number in found else "is no class index; accepted: 0 to 999"
            raise DataError(f"{path}: {path.name} {reason}")
        found[number] = path
    return dict(sorted(found.items()))


def _dataset(sample: str, folder: Path, numbered: dict[int, Path]) -> ClassificationSet:
    pictures = tuple(
        LabelledPicture(picture, number)
        for number, path in numbered.items()
        for picture in entries(path)
        if picture.suffix.lower() in SUFFIXES and not picture.name.startswith(".")
    )
    if not pictures:
        raise DataError(f"{folder}: its folders of classes have no picture; expected: {TREE}")
    notes = []
    if len(pictures) != OFFICIAL:
        notes.append(f"{len(pictures):,} pictures; the official set has {OFFICIAL:,}")
    if len(numbered) < COUNT:
        notes.append(f"folders of {len(numbered)} of {COUNT:,} classes")
    labels = tuple(Label(one.name, (one.name,)) for one in classes())
    return ClassificationSet("imagenet-v2", sample, folder, labels, pictures, "0…999/*.jpeg", tuple(notes))


def run(segmenter: Segmenter, data: Path, options: BenchmarkOptions) -> Report:
    """Top-1 and top-5; raises as :func:`read` and ``zero_shot.report``."""
    return report(segmenter, read(data, split=options.split), options)
