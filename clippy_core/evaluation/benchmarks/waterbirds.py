"""Waterbirds, birds of CUB-200 cut out and put before land or water: does a background decide what a bird is?

Layout, below DIR or ``DIR/waterbird_complete95_forest2water2`` or ``DIR/waterbirds_v1.0``: ``metadata.csv`` with the
columns ``img_id, img_filename, y, split, place, place_filename`` and the pictures in folders of CUB's species,
``001.Black_footed_Albatross/Black_Footed_Albatross_0001_796111.jpg``. ``y`` is 0 for a landbird and 1 for a waterbird,
``place`` 0 for land and 1 for water, ``split`` 0 for train, 1 for val, 2 for test.

The two classes are asked for by :data:`LABELS`, or by the two lines of ``DIR/labels.txt`` (landbird first, synonyms
after ``|``), if it is there. The drop is what waterbirds lose between water and land. The average is over pictures, as
the groups of the test split are balanced; the adjusted one weights groups as they are in the train split.

Source: S. Sagawa et al., *Distributionally Robust Neural Networks for Group Shifts* (arXiv 1911.08731); the
data's own metadata.
Shapes: N picture, G group.
"""

import csv
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from clippy_core.errors import DataError, UsageError
from clippy_core.evaluation.benchmarks import BenchmarkOptions, Report
from clippy_core.evaluation.layout import folders_in, wrong_folder
from clippy_core.evaluation.zero_shot.classify import classify
from clippy_core.evaluation.zero_shot.dataset import ClassificationSet, LabelledPicture
from clippy_core.evaluation.zero_shot.protocol import PRESETS, choose
from clippy_core.evaluation.zero_shot.report import counts, describe, images, timing
from clippy_core.prompts import Label, read_labels
from clippy_core.segmentation.segmenter import Segmenter

LABELS = (Label("landbird", ("landbird", "land bird")), Label("waterbird", ("waterbird", "water bird")))
"""Both spellings of each; as many words for one as for the other, since the highest of them counts."""
SPLITS = {"train": 0, "val": 1, "test": 2}
GROUPS = ("landbird on land", "landbird on water", "waterbird on land", "waterbird on water")
"""In the order of 2 · y + place."""
PROTOCOLS = {**PRESETS, "paper": replace(PRESETS["paper"], size=448)}
COLUMNS = ("img_filename", "y", "split", "place")
TREE = (
    "[waterbird_complete95_forest2water2/]metadata.csv with columns img_filename, y, split and place, and the pictures "
    "it names, such as 001.Black_footed_Albatross/*.jpg"
)
BELOW = ("", "waterbird_complete95_forest2water2", "waterbirds_v1.0")


@dataclass(frozen=True)
class Waterbirds:
    """The data set.

    Attributes:
        dataset: Pictures of one split with the kind of bird as class.
        place_of: 0 for land and 1 for water, by picture.
        train_share: Share of each of :data:`GROUPS` in the train split, which need not be here itself.
    """

    dataset: ClassificationSet
    place_of: dict[Path, int]
    train_share: tuple[float, ...]


def read(data: Path, *, split: str | None = None) -> Waterbirds:
    """The data set.

    Args:
        data: Its folder, or the one above.
        split: ``test`` (the default), ``val`` or ``train``.

    Raises:
        DataError: It is not in this folder, or the metadata cannot be understood.
        UsageError: Another split, or labels that cannot be understood.
    """
    split = split or "test"
    if split not in SPLITS:
        raise UsageError(f"the split {split} is unknown to benchmark 'waterbirds'; accepted: test, val, train")
    roots = [folder for folder in folders_in(data, BELOW) if (folder / "metadata.csv").is_file()]
    if not roots:
        raise wrong_folder(data, "Waterbirds", TREE, missing="metadata.csv")
    root = roots[0]
    rows = _read_metadata(root / "metadata.csv")
    chosen = [row for row in rows if row["split"] == SPLITS[split]]
    if not chosen:
        raise DataError(f"{root / 'metadata.csv'}: no picture of the split {split} ({SPLITS[split]})")
    pictures = tuple(LabelledPicture(root / row["img_filename"], row["y"]) for row in chosen)
    if not any(picture.path.is_file() for picture in pictures):
        missing = f"{pictures[0].path.relative_to(root)} and all others of the split {split}"
        raise wrong_folder(data, "Waterbirds", TREE, missing=missing, looked_at=root)
    places = {picture.path: row["place"] for picture, row in zip(pictures, chosen, strict=True)}
    train = [2 * row["y"] + row["place"] for row in rows if row["split"] == SPLITS["train"]]
    share = tuple(train.count(group) / len(train) if train else float("nan") for group in range(len(GROUPS)))
    dataset = ClassificationSet("waterbirds", split, root, _labels(root), pictures, "metadata.csv")
    return Waterbirds(dataset, places, share)


def run(segmenter: Segmenter, data: Path, options: BenchmarkOptions) -> Report:
    """Accuracy of each of the four groups; raises as :func:`read` and ``zero_shot.report``."""
    birds = read(data, split=options.split)
    protocol = choose(options, "waterbirds", PROTOCOLS)
    answers = classify(segmenter, birds.dataset, protocol, options)
    place_N = np.array([birds.place_of[picture.path] for picture in answers.pictures])
    group_N = np.where(answers.used_N, 2 * answers.truth_N + place_N, len(GROUPS))
    totals_G = np.bincount(group_N, minlength=len(GROUPS) + 1)[: len(GROUPS)]
    rights_G = np.bincount(group_N, answers.ranks_N == 0, len(GROUPS) + 1)[: len(GROUPS)]
    accuracies_G = np.divide(rights_G, totals_G, out=np.full(len(GROUPS), np.nan), where=totals_G > 0)
    by_name = dict(zip(GROUPS, accuracies_G.tolist(), strict=True))
    metrics = {
        **by_name,
        "drop": by_name["waterbird on water"] - by_name["waterbird on land"],
        "worst group": float(np.nanmin(accuracies_G)),
        "average": float(rights_G.sum() / totals_G.sum()),
        "adjusted average": float(accuracies_G @ birds.train_share),
        **counts(answers),
    }
    rows = [
        {"group": name, "right": int(right), "pictures": int(total), "accuracy": by_name[name]}
        for name, right, total in zip(GROUPS, rights_G, totals_G, strict=True)
    ]
    choices = {
        **describe(segmenter, birds.dataset, protocol, options, answers),
        "words": {label.name: label.words for label in birds.dataset.labels},
        "share of groups in the train split": dict(zip(GROUPS, birds.train_share, strict=True)),
    }
    return Report("waterbirds", metrics, choices, rows, images(birds.dataset, answers, options), timing=timing(answers))


def _labels(root: Path) -> tuple[Label, ...]:
    path = root / "labels.txt"
    if not path.is_file():
        return LABELS
    labels = read_labels(path)
    if len(labels) != 2:
        raise UsageError(f"{path}: {len(labels)} labels; accepted: two, first what a landbird is called")
    return labels


def _read_metadata(path: Path) -> list[dict]:
    """Rows with numbers as numbers."""
    try:
        rows = list(csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines()))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    accepted = {"y": ("0", "1"), "place": ("0", "1"), "split": ("0", "1", "2")}
    for number, row in enumerate(rows, start=2):
        wrong = next((name for name in COLUMNS if not row.get(name)), None)
        if wrong is not None:
            raise DataError(f"{path}, line {number}: no {wrong}; accepted: columns {', '.join(COLUMNS)}")
        for name, values in accepted.items():
            if row[name] not in values:
                raise DataError(f"{path}, line {number}: {name} is {row[name]!r}; accepted: {', '.join(values)}")
    return [{**row, **{name: int(row[name]) for name in accepted}} for row in rows]
