"""Where subjects on backgrounds come from: put together here, or the photographs of Waterbirds.

Shapes: S subject, H/W pixel.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from clippy_core import events
from clippy_core.analysis.backgrounds import compose
from clippy_core.analysis.backgrounds.effects import Answer, View
from clippy_core.errors import DataError, ImageError, UsageError
from clippy_core.evaluation.benchmarks import waterbirds
from clippy_core.images import MAX_PIXELS, read_picture
from clippy_core.prompts import Label, parse_labels

PLACES = ("land", "water")


class Composed:
    """Every cut-out of a folder on every background of it; see ``backgrounds.Views``.

    Args:
        folder: See ``compose``.
        labels: The classes; empty for what the subjects are called.
        side: Of the pictures that are made, in pixels.
        scale: See ``compose``.
        sink: Hears which pictures were left out if the others are not enough; else ``failures`` has them.

    Raises:
        DataError: A folder without a usable cut-out, or with fewer than two usable backgrounds.
        UsageError: Labels that do not name every subject, or a single label.
    """

    layout: str = "composed"

    def __init__(
        self,
        folder: Path,
        labels: tuple[Label, ...],
        side: int,
        scale: float,
        sink: events.Sink = events.ignore,
    ) -> None:
        self.failures: list[tuple[str, str]] = []
        self._side = side
        subjects = compose.find_named(folder / compose.SUBJECTS)
        grounds = compose.find_named(folder / compose.BACKGROUNDS)
        usable: list[compose.Named] = []
        self._cutouts: list[np.ndarray] = []
        self._grounds: list[compose.Named] = []
        for subject in subjects:
            cutout_hw4 = self._try(subject.path, lambda path: compose.read_cutout(path, max_pixels=MAX_PIXELS))
            if cutout_hw4 is not None:
                usable.append(subject)
                self._cutouts.append(compose.scaled(cutout_hw4, max(1, round(scale * side))))
        for ground in grounds:
            if self._try(ground.path, self._ground) is not None:
                self._grounds.append(ground)
        try:
            self._require_enough(folder, usable)
            self.labels, self.truth_S = _find_classes(usable, labels)
        except (DataError, UsageError):
            # What is said of the rest often comes from what was left out.
            for path, why in self.failures:
                sink(events.Noticed(f"left out: {path}: {why.removeprefix(f'{path}: ')}", serious=True))
            raise
        self.subjects = tuple(subject.name for subject in usable)
        self.grounds = tuple(ground.name for ground in self._grounds)
        self.kinds = tuple(ground.kind for ground in self._grounds)

    def __len__(self) -> int:
        return len(self.subjects) * len(self.grounds)

    def __iter__(self) -> Iterator[View | tuple[str, str]]:
        """Background by background, so that each is read once."""
        for number, ground in enumerate(self._grounds):
            ground_HW3 = self._ground(ground.path)
            for subject, cutout_hw4 in enumerate(self._cutouts):
                yield View(subject, number, *compose.lay_over(cutout_hw4, ground_HW3))

    def again(self, answer: Answer) -> np.ndarray:
        """The pixels of one of the views."""
        ground_HW3 = self._ground(self._grounds[answer.ground].path)
        return compose.lay_over(self._cutouts[answer.subject], ground_HW3)[0]

    def _require_enough(self, folder: Path, usable: list[compose.Named]) -> None:
        if usable and len(self._grounds) > 1:
            return
        reason = f"; {self.failures[0][1]}" if self.failures else ""
        count = f"{len(self._grounds)} usable background; two or more are needed"
        raise DataError(f"{folder}: {count if usable else 'no usable subject'}{reason}")

    def _ground(self, path: Path) -> np.ndarray:
        return compose.fill_square(read_picture(path, max_pixels=MAX_PIXELS).pixels_HW3, self._side)

    def _try(self, path: Path, read: Callable[[Path], np.ndarray]) -> np.ndarray | None:
        """What ``read`` makes of a file; None, and a failure, if it cannot be used."""
        try:
            return read(path)
        except ImageError as error:
            self.failures.append((str(path), " ".join(str(error).split())))
            return None


def _find_classes(subjects: list[compose.Named], labels: tuple[Label, ...]) -> tuple[tuple[Label, ...], np.ndarray]:
    """The labels that were given, or else what the subjects are called, and which of them each subject is."""
    kinds: dict[str, str] = {}
    for subject in subjects:
        kinds.setdefault(subject.kind.casefold(), subject.kind)
    labels = labels or parse_labels(list(kinds.values()))
    truth_S = np.array([_find_label(subject, labels) for subject in subjects])
    first, *rivals = labels
    if not rivals:
        raise UsageError(
            f"every subject is a {first.name!r}, and one label always wins; give it rivals, such as "
            f"--labels '{first.name},cat'"
        )
    return labels, truth_S


def _find_label(subject: compose.Named, labels: tuple[Label, ...]) -> int:
    for number, label in enumerate(labels):
        if subject.kind.casefold() in (word.casefold() for word in label.words):
            return number
    raise UsageError(
        f"{subject.path} shows a {subject.kind!r} by its name, which no label is called; accepted: --labels with a "
        "label or synonym for each subject"
    )


class Waterbirds:
    """The photographs of Waterbirds; a subject is a species; see ``backgrounds.Views``.

    Raises:
        DataError: The data set is not in the folder.
        UsageError: Another split, or labels that are not two.
    """

    layout: str = "waterbirds"

    def __init__(self, folder: Path, labels: tuple[Label, ...], split: str | None, limit: int | None) -> None:
        birds = waterbirds.read(folder, split=split)
        self.failures: list[tuple[str, str]] = []
        self.labels = labels or birds.dataset.labels
        if len(self.labels) != 2:
            raise UsageError(
                f"{len(self.labels)} labels for Waterbirds; accepted: two, first what a landbird is called"
            )
        pictures = birds.dataset.pictures
        if limit is not None and limit < len(pictures):
            pictures = tuple(pictures[place] for place in np.linspace(0, len(pictures) - 1, limit).round().astype(int))
        self._pictures = pictures
        self._place_of = birds.place_of
        species = sorted({(picture.path.parent.name, picture.label) for picture in pictures})
        self._number = {key: number for number, key in enumerate(species)}
        self.subjects = tuple(name.partition(".")[2].replace("_", " ") or name for name, _ in species)
        self.truth_S = np.array([label for _, label in species])
        self.grounds: tuple[str, ...] = PLACES
        self.kinds: tuple[str, ...] = PLACES

    def __len__(self) -> int:
        return len(self._pictures)

    def __iter__(self) -> Iterator[View | tuple[str, str]]:
        """One photograph after another."""
        for picture in self._pictures:
            try:
                pixels_HW3 = read_picture(picture.path, max_pixels=MAX_PIXELS).pixels_HW3
            except ImageError as error:
                yield str(picture.path), " ".join(str(error).split())
                continue
            subject = self._number[picture.path.parent.name, picture.label]
            yield View(subject, self._place_of[picture.path], pixels_HW3, None, picture.path)

    def again(self, answer: Answer) -> np.ndarray:
        """The pixels of one of the photographs."""
        assert answer.path is not None, "every answer about a photograph has its file"
        return read_picture(answer.path, max_pixels=MAX_PIXELS).pixels_HW3
