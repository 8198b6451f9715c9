"""What the model says of subjects on backgrounds, and what follows from it.

Shapes: S subject, G background, K label, H/W pixel.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from clippy_core.analysis.words import Words
from clippy_core.prompts import Label


@dataclass(frozen=True, eq=False)
class View:
    """A subject on a background.

    Attributes:
        subject: Its number.
        ground: The background's.
        pixels_HW3: ``uint8`` RGB.
        own_HW: Which pixels are the subject's, ``bool``; None where that is not known.
        path: The picture's file, if it is one.
    """

    subject: int
    ground: int
    pixels_HW3: np.ndarray
    own_HW: np.ndarray | None = None
    path: Path | None = None


@dataclass(frozen=True)
class Answer:
    """What the model says to a view.

    Attributes:
        subject: See :class:`View`.
        ground: See :class:`View`.
        said: Number of the label of highest cosine.
        probability: Softmax probability of the true label, 0…1.
        path: See :class:`View`.
    """

    subject: int
    ground: int
    said: int
    probability: float
    path: Path | None = None


class Views(Protocol):
    """Subjects on backgrounds.

    Attributes:
        layout: ``composed`` or ``waterbirds``.
        labels: The classes.
        subjects: Names of the subjects.
        truth_S: Each subject's class.
        grounds: Names of the backgrounds.
        kinds: What each background shows.
        failures: Files that could not be used, and why.
    """

    layout: str
    labels: tuple[Label, ...]
    subjects: tuple[str, ...]
    truth_S: np.ndarray
    grounds: tuple[str, ...]
    kinds: tuple[str, ...]
    failures: list[tuple[str, str]]

    def __len__(self) -> int:
        """How many views there are."""
        ...

    def __iter__(self) -> Iterator[View | tuple[str, str]]:
        """All views; instead of one that cannot be made, the file and the reason."""
        ...

    def again(self, answer: Answer) -> np.ndarray:
        """The pixels of one of the views."""
        ...


@dataclass(eq=False)
class Effects:
    """What backgrounds do. NaN stands where a subject was never seen on a background.

    Attributes:
        labels: Names of the classes.
        subjects: Names of the subjects.
        truth_S: Each subject's class.
        grounds: Names of the backgrounds.
        kinds: What each background shows.
        probability_SGK: Softmax probabilities, 0…1, the mean where there are several pictures.
        cosine_SG: Cosine of the picture's embedding with the true label, likewise.
        right_SG: Share of pictures whose nearest label is the true one.
        own_SG: Share of the subject's own pixels that get the true label; NaN where they are not known.
        count_SG: How many pictures there are.
        answers: Every single one.
        failures: Files that could not be used, and why.
    """

    labels: tuple[str, ...]
    subjects: tuple[str, ...]
    truth_S: np.ndarray
    grounds: tuple[str, ...]
    kinds: tuple[str, ...]
    probability_SGK: np.ndarray
    cosine_SG: np.ndarray
    right_SG: np.ndarray
    own_SG: np.ndarray
    count_SG: np.ndarray
    answers: list[Answer] = field(default_factory=list)
    failures: list[tuple[str, str]] = field(default_factory=list)

    @property
    def true_SG(self) -> np.ndarray:
        """Probability of the true label."""
        return self.probability_SGK[np.arange(len(self.subjects)), :, self.truth_S]

    @property
    def change_SG(self) -> np.ndarray:
        """Probability of the true label less the mean over the subject's backgrounds: against the average one."""
        return self.true_SG - nanmean(self.true_SG, 1)[:, None]

    @property
    def drop_S(self) -> np.ndarray:
        """What each subject loses between its best and its worst background, in probability."""
        return _span(self.true_SG)

    @property
    def kind_names(self) -> tuple[str, ...]:
        """The different kinds of background, in order."""
        return tuple(dict.fromkeys(self.kinds))

    def by_group(self, values_SG: np.ndarray) -> np.ndarray:
        """Means over the views of each class (rows) on each kind of background (columns); NaN for none."""
        kind_G = np.array([self.kind_names.index(kind) for kind in self.kinds])
        groups = np.full((len(self.labels), len(self.kind_names)), np.nan)
        for label in range(len(self.labels)):
            for kind in range(len(self.kind_names)):
                rows, columns = self.truth_S == label, kind_G == kind
                values, counts = values_SG[np.ix_(rows, columns)], self.count_SG[np.ix_(rows, columns)]
                usable = np.isfinite(values) & (counts > 0)
                if usable.any():
                    groups[label, kind] = np.average(values[usable], weights=counts[usable])
        return groups

    def push(self) -> np.ndarray:
        """What each kind of background (rows) adds to the probability of each label (columns).

        Only subjects that are something else count: it is what a background says by itself. NaN where there is none.
        """
        added_SGK = self.probability_SGK - nanmean(self.probability_SGK, 1)[:, None, :]
        push = np.full((len(self.kind_names), len(self.labels)), np.nan)
        for row, kind in enumerate(self.kind_names):
            columns = np.array([each == kind for each in self.kinds])
            for label in range(len(self.labels)):
                values = added_SGK[self.truth_S != label][:, columns, label]
                if np.isfinite(values).any():
                    push[row, label] = np.nanmean(values)
        return push

    def flips(self) -> list[Answer]:
        """Wrong answers about subjects that are recognised on another background, the least probable first."""
        recognised = {answer.subject for answer in self.answers if answer.said == self.truth_S[answer.subject]}
        wrong = [
            answer
            for answer in self.answers
            if answer.subject in recognised and answer.said != self.truth_S[answer.subject]
        ]
        return sorted(wrong, key=lambda answer: answer.probability)


def nanmean(values: np.ndarray, axis: int) -> np.ndarray:
    """The mean of what is a number; NaN where nothing is."""
    known = np.isfinite(values)
    count = known.sum(axis)
    return np.divide(np.where(known, values, 0).sum(axis), count, out=np.full(count.shape, np.nan), where=count > 0)


def _span(values_SG: np.ndarray) -> np.ndarray:
    high, low = (np.where(np.isfinite(values_SG), values_SG, fill) for fill in (-np.inf, np.inf))
    span_S = high.max(1) - low.min(1)
    return np.where(np.isfinite(span_S), span_S, np.nan)


class Tally:
    """Adds up answers by subject and background."""

    def __init__(self, views: Views, labels: int) -> None:
        shape = (len(views.subjects), len(views.grounds))
        self._views = views
        self._count_SG = np.zeros(shape, int)
        self._probability_SGK = np.zeros((*shape, labels))
        self._cosine_SG, self._right_SG = np.zeros(shape), np.zeros(shape)
        self._own_SG, self._owned_SG = np.zeros(shape), np.zeros(shape, int)
        self.answers: list[Answer] = []

    def add(self, view: View, cosine_K: np.ndarray, scale: float, own: float | None) -> None:
        """Add the cosines of a view's embedding, and the share of the subject's pixels that are right."""
        cell, truth = (view.subject, view.ground), int(self._views.truth_S[view.subject])
        probability_K = softmax(cosine_K, scale)
        said = int(cosine_K.argmax())
        self._count_SG[cell] += 1
        self._probability_SGK[cell] += probability_K
        self._cosine_SG[cell] += cosine_K[truth]
        self._right_SG[cell] += said == truth
        if own is not None:
            self._own_SG[cell] += own
            self._owned_SG[cell] += 1
        self.answers.append(Answer(*cell, said, float(probability_K[truth]), view.path))

    def effects(self, words: Words) -> Effects:
        """Means over the pictures of each cell."""
        views = self._views

        def mean(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
            return np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)

        return Effects(
            labels=words.names,
            subjects=views.subjects,
            truth_S=views.truth_S,
            grounds=views.grounds,
            kinds=views.kinds,
            probability_SGK=mean(
                self._probability_SGK, np.broadcast_to(self._count_SG[..., None], self._probability_SGK.shape)
            ),
            cosine_SG=mean(self._cosine_SG, self._count_SG),
            right_SG=mean(self._right_SG, self._count_SG),
            own_SG=mean(self._own_SG, self._owned_SG),
            count_SG=self._count_SG,
            answers=self.answers,
            failures=views.failures,
        )


def softmax(cosine_K: np.ndarray, scale: float) -> np.ndarray:
    """Probabilities from cosines and the model's factor on them."""
    weights_K = np.exp(scale * (cosine_K.astype(np.float64) - cosine_K.max()))
    return weights_K / weights_K.sum()
