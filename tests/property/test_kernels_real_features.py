"""Label maps of the bundled model's own features, against a float64 reference."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import clippy_core
from clippy_core.images import read_picture
from clippy_core.kernels import label_map, patch_logits, reference

PHOTOGRAPHS = sorted((Path(__file__).parents[2] / "docs" / "photographs").glob("*.jpg"))
NEAR = 1e-6


@pytest.fixture(scope="module")
def segmenter():
    return clippy_core.load("clippy-lite", device="cpu", runtime="torch")


@pytest.fixture(scope="module")
def words_KD(segmenter):
    vocabulary = json.loads(segmenter.tokenizer.path.read_text())["model"]["vocab"]
    words = [word for word in vocabulary if word.isalpha() and len(word) > 3][:300]
    return segmenter.embed_words(words, ("a photo of a {}.",))


@pytest.mark.parametrize("implementation", ["auto", "numpy", "torch"])
@pytest.mark.parametrize(("labels", "size"), [(1, (40, 64)), (3, (301, 403)), (150, (240, 320)), (300, (96, 128))])
@pytest.mark.parametrize("photograph", PHOTOGRAPHS, ids=lambda path: path.stem)
def test_labels_equal_a_float64_reference(segmenter, words_KD, photograph, labels, size, implementation):
    features_PD, grid = segmenter.encode(read_picture(photograph).pixels_HW3)
    logits_hwK = patch_logits(features_PD, words_KD[:labels], grid)
    want = reference.label_map(logits_hwK, size, scores=True, margins=True, dtype=torch.float64)
    got = label_map(logits_hwK, size, scores=True, margins=True, implementation=implementation)
    wrong = (got.labels_HW != want.labels_HW) & (want.margins_HW >= NEAR)
    assert not wrong.any()
    np.testing.assert_allclose(got.scores_HW, want.scores_HW, atol=2 * NEAR)
    if labels > 1:
        np.testing.assert_allclose(got.margins_HW, want.margins_HW, atol=3 * NEAR)
