"""Which words stand for which class."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from clippy_core.errors import UsageError
from clippy_core.evaluation.dense.dataset import DenseDataset
from clippy_core.evaluation.dense.words import embed, vocabulary
from clippy_core.evaluation.protocols import preset

DATASET = DenseDataset(
    *("three3", "val", ("cat", "background", "sofa"), ()),
    read_mask=lambda example: np.zeros((1, 1)),
    background=1,
    background_names=("sky", "Sofa", "wall"),
    synonyms={"sofa": ("couch", "sky"), "cat": ("kitten", "couch")},
)
WITHOUT = replace(DATASET, background=None, background_names=())


@pytest.mark.parametrize(
    ("dataset", "choices", "expected", "left_out"),
    [
        (DATASET, {"background": "name"}, {"cat": ["cat"], "background": ["background"], "sofa": ["sofa"]}, ()),
        (
            DATASET,
            {"background": "names"},
            {"cat": ["cat"], "background": ["sky", "wall"], "sofa": ["sofa"]},
            ("Sofa",),
        ),
        (DATASET, {"background": "none"}, {"cat": ["cat"], "background": [], "sofa": ["sofa"]}, ()),
        (DATASET, {"background": ("rug",)}, {"cat": ["cat"], "background": ["rug"], "sofa": ["sofa"]}, ()),
        (
            DATASET,
            {"background": "name", "distractors": ("tree", "cat")},
            {"cat": ["cat"], "background": ["background", "tree"], "sofa": ["sofa"]},
            ("cat",),
        ),
        (
            DATASET,
            {"background": "names", "synonyms": True},
            {"cat": ["cat", "kitten", "couch"], "background": ["sky", "wall"], "sofa": ["sofa"]},
            ("Sofa", "couch", "sky"),
        ),
        (
            DATASET,
            {"background": "name", "renamed": {"sofa": "settee"}},
            {"cat": ["cat"], "background": ["background"], "sofa": ["settee"]},
            (),
        ),
        (WITHOUT, {}, {"cat": ["cat"], "background": ["background"], "sofa": ["sofa"]}, ()),
        (
            replace(DATASET, background_names=()),
            {"background": "names"},
            {"cat": ["cat"], "background": ["background"], "sofa": ["sofa"]},
            (),
        ),
    ],
)
def test_words(dataset, choices, expected, left_out):
    found = vocabulary(dataset, replace(preset("paper"), **choices))
    assert found.by_class(dataset.classes) == expected
    assert found.left_out == left_out
    assert list(found.class_of_word) == sorted(found.class_of_word)


def test_without_a_word_nothing_can_be_asked():
    only = replace(DATASET, classes=("background",), background=0)
    with pytest.raises(UsageError, match="no class has a word"):
        vocabulary(only, replace(preset("paper"), background="none"))


def test_the_article_is_the_word_s():
    asked = []

    class Segmenter:
        def embed_words(self, words, templates):
            asked.extend(template.replace("{}", word) for word in words for template in templates)
            return torch.tensor([[float(len(word)), 0.0] for word in words])

    words = ("dog", "Apple", "cat", "umbrella")
    found_KD = embed(Segmenter(), words, ("a photo of a(n) {}", "{}"))  # type: ignore[arg-type]
    assert sorted(asked) == sorted(
        [*words, "a photo of a dog", "a photo of an Apple", "a photo of a cat", "a photo of an umbrella"]
    )
    assert found_KD[:, 0].tolist() == [3, 5, 3, 8]
