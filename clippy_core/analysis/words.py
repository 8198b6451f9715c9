"""Labels as an analysis compares features with them.

Shapes: P location, D embedding, K label, W word.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from clippy_core.prompts import Label

if TYPE_CHECKING:
    from clippy_core.segmentation.segmenter import Segmenter


@dataclass(frozen=True, eq=False)
class Words:
    """Labels and the unit vectors of their words.

    Attributes:
        names: The labels' names.
        words_WD: A unit vector a word, ``float32``; words of one label are neighbours.
        first_K: Place of each label's first word.
    """

    names: tuple[str, ...]
    words_WD: np.ndarray
    first_K: np.ndarray

    def cosines(self, unit_PD: np.ndarray) -> np.ndarray:
        """Cosine of every location with every label, (P, K): the highest over the label's words."""
        return np.maximum.reduceat(unit_PD @ self.words_WD.T, self.first_K, axis=1)

    def best_words(self, vector_D: np.ndarray) -> np.ndarray:
        """For each label the vector of the word that is nearest to ``vector_D``, (K, D)."""
        cosine_W = self.words_WD @ vector_D
        ends = [*self.first_K[1:].tolist(), len(cosine_W)]
        best = [
            first + int(cosine_W[first:end].argmax()) for first, end in zip(self.first_K.tolist(), ends, strict=True)
        ]
        return self.words_WD[best]


def embed(segmenter: "Segmenter", labels: Sequence[Label]) -> Words:
    """The labels in the model's own prompts."""
    found = segmenter.embed_labels(labels)
    first_K = np.flatnonzero(np.diff(found.label_of_word, prepend=-1))
    return Words(found.names, to_array(found.words_KD), first_K)


def to_array(values: Any) -> np.ndarray:
    """A tensor of any device, or an array, as an array of ``float32``."""
    return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values, np.float32)
