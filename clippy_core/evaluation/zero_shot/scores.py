"""Cosines of pictures with classes.

Shapes: B picture, U different word, D embedding, C class.
"""

from collections.abc import Sequence

import numpy as np

from clippy_core.evaluation.dense.cache import FeatureCache
from clippy_core.evaluation.share import Share
from clippy_core.prompts import Label
from clippy_core.segmentation.segmenter import Segmenter

TEXTS = 4096
"""So many texts are embedded at a time: 80 prompts of 1000 names would fill gigabytes."""


class Scorer:
    """Every class as the model understands its words.

    Every process embeds its share of the words and gets all of them.

    Args:
        segmenter: The model.
        labels: The classes; two may be called the same.
        prompts: What words are put into.
        share: This process's part of the words.
        cache: Where embeddings are kept; None to keep none.
        identity: What the model is, for the cache.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        labels: Sequence[Label],
        prompts: tuple[str, ...],
        share: Share,
        cache: FeatureCache | None = None,
        identity: str = "",
    ) -> None:
        words = list(dict.fromkeys(word for label in labels for word in label.words))
        place = {word: index for index, word in enumerate(words)}
        self._columns = np.array([place[word] for label in labels for word in label.words])
        self._first = np.cumsum([0, *(len(label.words) for label in labels)])[:-1]
        parts = []
        for batch in share.batches(range(len(words)), max(1, TEXTS // len(prompts))):
            some = [words[index] for index in batch]

            def embed(some: list[str] = some) -> dict[str, np.ndarray]:
                return {"words_BD": segmenter.embed_words(some, prompts).float().cpu().numpy()}

            kept = cache.get([identity, "words", some, prompts], embed) if cache else embed()
            parts.append((batch, kept["words_BD"]))
        self._words_UD = _gather(len(words), parts, share)

    def __call__(self, pooled_BD: np.ndarray) -> np.ndarray:
        """Scores, ``float32`` of shape (B, C), from unit vectors of pictures.

        A word is compared once, however many classes it stands for, so that their scores are equal to the last bit.
        """
        scores_BU = pooled_BD @ self._words_UD.T
        return np.maximum.reduceat(scores_BU[:, self._columns], self._first, axis=1)


def _gather(count: int, parts: list[tuple[Sequence[int], np.ndarray]], share: Share) -> np.ndarray:
    # A process without a word of its own learns the width from the first, which always has one.
    width = int(share.add_up(np.array([parts[0][1].shape[1] if share.rank == 0 else 0]))[0])
    words_UD = np.zeros((count, width), np.float32)
    for batch, vectors_BD in parts:
        words_UD[list(batch)] = vectors_BD
    return share.add_up(words_UD)
