"""Every implementation of the label map against a float64 reference, over drawn shapes and values."""

import importlib.util
import os

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clippy_core.kernels import label_map, reference, softmax_label_map

CPU = ("numpy", "torch", "reference")
# Triton runs here only inside its interpreter; tests/unit/kernels/test_triton_interpreted.py starts this file that way.
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1" and importlib.util.find_spec("triton") is not None
NEAR = 1e-6


def assert_matches(logits_hwK, size, groups, implementation):
    """Labels equal but where the two best nearly tie; scores and margins equal up to rounding."""
    largest = max(float(np.abs(logits_hwK).max()), 1.0)
    want = reference.label_map(
        torch.from_numpy(logits_hwK), size, groups=groups, scores=True, margins=True, dtype=torch.float64
    )
    want_labels, want_scores, want_margins = (
        array.numpy() for array in (want.labels_HW, want.scores_HW, want.margins_HW)
    )
    for scores, margins in ((False, False), (True, True), (True, False), (False, True)):
        got = label_map(logits_hwK, size, groups=groups, scores=scores, margins=margins, implementation=implementation)
        assert got.labels_HW.dtype == np.int32
        assert got.labels_HW.shape == tuple(size)
        wrong = (got.labels_HW != want_labels) & (want_margins >= NEAR * largest)
        assert not wrong.any(), f"{wrong.sum()} wrong labels, scores={scores}, margins={margins}"
        assert (got.scores_HW is not None) == scores
        assert (got.margins_HW is not None) == margins
        if scores:
            assert got.scores_HW.dtype == np.float32
            np.testing.assert_allclose(got.scores_HW, want_scores, atol=2 * NEAR * largest)
        if margins:
            assert got.margins_HW.dtype == np.float32
            np.testing.assert_allclose(got.margins_HW, want_margins, atol=3 * NEAR * largest)


def draw_logits(rng, h, w, K, kind):
    """Logits of a kind: noise, few distinct values (many ties), a scene of regions, equal rows, or all the same."""
    if kind == "noise":
        return rng.standard_normal((h, w, K)).astype(np.float32)
    if kind == "coarse":
        return (rng.integers(-2, 3, (h, w, K)) / 4).astype(np.float32)
    if kind == "equal rows":
        return rng.standard_normal((h, w, max(1, K // 3))).astype(np.float32)[..., rng.integers(0, max(1, K // 3), K)]
    if kind == "constant":
        return np.full((h, w, K), rng.standard_normal(), np.float32)
    if kind == "large":
        return (1e4 * rng.standard_normal((h, w, K))).astype(np.float32)
    region = rng.random((h, 1)) * 2 + rng.random((1, w)) * 2
    prototype = rng.standard_normal((4, K))
    scene = 0.2 + 0.1 * prototype[region.astype(int)] + 0.02 * rng.standard_normal((h, w, K))
    return scene.astype(np.float32)


@st.composite
def cases(draw, longest_grid=9, longest_image=64, labels=(1, 2, 3, 7, 40, 150)):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    h, w = draw(st.integers(1, longest_grid)), draw(st.integers(1, longest_grid))
    size = draw(st.integers(1, longest_image)), draw(st.integers(1, longest_image))
    K = draw(st.sampled_from(labels))
    kind = draw(st.sampled_from(["noise", "scene", "coarse", "equal rows", "constant", "large"]))
    groups = None
    if draw(st.booleans()):
        groups = np.sort(rng.integers(0, draw(st.integers(1, K)), K))
    return draw_logits(rng, h, w, K, kind), size, groups


@settings(max_examples=200, database=None)
@given(case=cases())
def test_numpy_matches_float64(case):
    assert_matches(*case, "numpy")


@pytest.mark.parametrize("implementation", ["torch", "reference"])
@settings(max_examples=30, database=None)
@given(case=cases(longest_image=32))
def test_torch_matches_float64(implementation, case):
    assert_matches(*case, implementation)


@pytest.mark.skipif(not INTERPRETED, reason="needs Triton's interpreter")
@settings(max_examples=25, database=None)
@given(case=cases(longest_grid=4, longest_image=20, labels=(1, 2, 3, 17, 40)))
def test_triton_matches_float64(case):
    assert_matches(*case, "triton")


@pytest.mark.parametrize("kind", ["noise", "scene", "equal rows"])
@pytest.mark.parametrize(
    ("grid", "size", "labels"),
    [
        ((1, 1), (17, 9), 5000),
        ((1, 7), (33, 50), 847),
        ((9, 1), (50, 33), 847),
        ((6, 5), (97, 61), 5000),
        ((14, 14), (224, 224), 21),
        ((14, 20), (301, 407), 150),
        ((28, 28), (14, 14), 150),
        ((20, 20), (7, 300), 21),
        ((28, 28), (31, 30), 40),
        ((2, 2), (260, 340), 150),
    ],
)
def test_numpy_on_larger_shapes(grid, size, labels, kind):
    rng = np.random.default_rng(0)
    groups = np.sort(rng.integers(0, max(1, labels // 3), labels)) if labels % 2 else None
    assert_matches(draw_logits(rng, *grid, labels, kind), size, groups, "numpy")


@pytest.mark.parametrize("implementation", CPU)
@settings(max_examples=40, database=None)
@given(case=cases(longest_image=40, labels=(2, 3, 40)), data=st.data())
def test_equal_prompts_go_to_the_first(implementation, case, data):
    logits_hwK, size, _ = case
    K = logits_hwK.shape[2]
    twin = data.draw(st.integers(1, K - 1))
    logits_hwK[..., twin] = logits_hwK[..., data.draw(st.integers(0, twin - 1))]
    labels_HW = label_map(logits_hwK, size, implementation=implementation).labels_HW
    assert not (labels_HW == twin).any()


@settings(max_examples=60, database=None)
@given(case=cases(longest_image=30, labels=(1, 2, 7, 40)), scale=st.sampled_from([1.0, 20.0, 100.0]))
def test_softmax_matches_float64(case, scale):
    logits_hwK, size, groups = case
    full_HWK = torch.nn.functional.interpolate(
        torch.from_numpy(logits_hwK).double().permute(2, 0, 1)[None], size=size, mode="bilinear"
    )[0].movedim(0, -1)
    if groups is not None:
        full_HWK = torch.stack([full_HWK[..., groups == g].amax(-1) for g in np.unique(groups)], -1)
    want_HW = (full_HWK * scale).softmax(-1).amax(-1)
    got = softmax_label_map(logits_hwK, size, scale=scale, groups=groups)
    largest = max(float(np.abs(logits_hwK).max()), 1.0)
    np.testing.assert_allclose(got.scores_HW, want_HW, rtol=3e-6 * scale * largest, atol=1e-7)
    plain = label_map(logits_hwK, size, groups=groups, margins=True, implementation="reference")
    wrong = (got.labels_HW != plain.labels_HW) & (plain.margins_HW >= NEAR * largest)
    assert not wrong.any()
