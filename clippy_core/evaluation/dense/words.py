"""What the model is asked for: the words of every class, and their embeddings.

Shapes: K word, D embedding.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clippy_core.errors import UsageError
from clippy_core.evaluation.dense.dataset import DenseDataset
from clippy_core.evaluation.protocols import Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from clippy_core.segmentation.segmenter import Segmenter

ARTICLE = "a(n) {}"
VOWELS = tuple("aeiou")


@dataclass(frozen=True)
class Vocabulary:
    """Words of classes.

    Attributes:
        words: All words, those of one class beside each other.
        class_of_word: The class of each, non-decreasing.
        left_out: Synonyms and words for the background that mean a class already.
    """

    words: tuple[str, ...]
    class_of_word: tuple[int, ...]
    left_out: tuple[str, ...]

    def by_class(self, classes: tuple[str, ...]) -> dict[str, list[str]]:
        """The words of every class, by the class's name."""
        found: dict[str, list[str]] = {name: [] for name in classes}
        for word, index in zip(self.words, self.class_of_word, strict=True):
            found[classes[index]].append(word)
        return found


def vocabulary(dataset: DenseDataset, protocol: Protocol) -> Vocabulary:
    """The words that a protocol asks for.

    Raises:
        UsageError: There is no word at all.
    """
    wanted = [list(_words_of(index, dataset, protocol)) for index in range(len(dataset.classes))]
    # A class's own name stays with it, whatever else means it; of further words the first to come has it.
    taken = {words[0].casefold() for index, words in enumerate(wanted) if index != dataset.background and words}
    words, classes, left_out = [], [], []
    for index, candidates in enumerate(wanted):
        for place, word in enumerate(candidates):
            if (index == dataset.background or place) and word.casefold() in taken:
                left_out.append(word)
                continue
            taken.add(word.casefold())
            words.append(word)
            classes.append(index)
    if not words:
        raise UsageError(f"{dataset.name}: no class has a word; accepted: background words, or more classes")
    return Vocabulary(tuple(words), tuple(classes), tuple(left_out))


def _words_of(index: int, dataset: DenseDataset, protocol: Protocol) -> Iterator[str]:
    name = dataset.classes[index]
    if index == dataset.background:
        yield from _of_background(name, dataset, protocol)
        return
    yield protocol.renamed.get(name, name)
    if protocol.synonyms:
        yield from dataset.synonyms.get(name, ())


def _of_background(name: str, dataset: DenseDataset, protocol: Protocol) -> Iterator[str]:
    if protocol.background == "name":
        yield name
    elif protocol.background == "names":
        # A data set without such a list has its background asked for by name.
        yield from dataset.background_names or (name,)
    elif protocol.background != "none":
        yield from protocol.background
    yield from protocol.distractors


def embed(segmenter: "Segmenter", words: tuple[str, ...], templates: tuple[str, ...]) -> "Tensor":
    """One unit vector a word, ``float32`` (K, D); ``a(n)`` in a template becomes the word's article."""
    import torch

    groups: dict[tuple[str, ...], list[int]] = {}
    for index, word in enumerate(words):
        article = "an {}" if word.lower().startswith(VOWELS) else "a {}"
        groups.setdefault(tuple(one.replace(ARTICLE, article) for one in templates), []).append(index)
    found: list[Tensor] = [torch.empty(0)] * len(words)
    for prompts, indices in groups.items():
        for index, vector_D in zip(indices, segmenter.embed_words([words[i] for i in indices], prompts), strict=True):
            found[index] = vector_D
    return torch.stack(found)
