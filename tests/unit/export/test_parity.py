"""The gate itself: figures by hand, and inputs that differ from run to run."""

import numpy as np
import pytest

from clippy_core.export.parity import TOLERANCES, Figures, Tolerance, compare, pictures

TIGHT = Tolerance(0.1, 0.9, 0.95, 0.5)


def test_figures_by_hand():
    figures = Figures()
    figures.add(np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[1.0, 0.0], [0.6, 0.8]]), vectors=True)
    figures.agreements += [1.0, 0.5]
    document = figures.to_dict()
    assert document["max_abs"] == pytest.approx(0.6)
    assert document["min_cosine"] == pytest.approx(0.8)
    assert document["mean_cosine"] == pytest.approx(0.9)
    assert document["agreement"] == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("found", "failure"),
    [
        ([[1.0, 0.0]], None),
        ([[0.98, 0.199]], "max_abs is 0.199, tolerance 0.1"),
        ([[0.8, 0.0]], "its output is not finite, or of another shape or length"),
        ([[np.nan, 0.0]], "its output is not finite, or of another shape or length"),
        ([[np.inf, 0.0]], "its output is not finite, or of another shape or length"),
        ([[1.0, 0.0, 0.0]], "its output is not finite, or of another shape or length"),
    ],
)
def test_what_fails(found, failure):
    figures = Figures()
    figures.add(np.array([[1.0, 0.0]]), np.array(found), vectors=True)
    assert figures.failure(TIGHT) == failure


@pytest.mark.parametrize("precision", list(TOLERANCES))
def test_numbers_that_are_none_fail_in_every_precision(precision):
    figures = Figures()
    figures.add(np.ones((1, 2)), np.full((1, 2), np.nan), vectors=True)
    assert figures.failure(TOLERANCES[precision]) is not None


def test_agreement_fails_last():
    figures = Figures(agreements=[0.4])
    assert figures.failure(TIGHT) == "agreement is 0.4, tolerance 0.5"
    assert figures.judge(TIGHT)[0] == {"inputs": 0, "agreement": 0.4, "tolerance": {"agreement": 0.5}}


def test_inputs_are_fresh_whole_cells_of_several_sizes(tiny):
    one = [batch for batch, _ in pictures(tiny, np.random.default_rng(1))]
    other = [batch for batch, _ in pictures(tiny, np.random.default_rng(2))]
    assert len({batch.shape for batch in one}) >= 4
    assert {len(batch) for batch in one} == {1, 2, 3}
    assert all(side % 8 == 0 for batch in one for side in batch.shape[2:])
    assert not any(a.shape == b.shape and np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_swapped_output_is_found(tiny):
    """A runner that computes everything right but mirrors the grid."""
    import torch

    def mirrored(inputs):
        seen = tiny.model.encode_image(torch.from_numpy(inputs["pixels"]))
        patches = seen.patches_BPD.unflatten(1, seen.grid).numpy()
        return [patches[:, :, ::-1], seen.pooled_BD.numpy()]

    assert compare("vision", mirrored, tiny, seed=0).failure(TOLERANCES["fp32"]) is not None
