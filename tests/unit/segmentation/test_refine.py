"""The guided filter against least squares window by window, and borders that move to where the picture has them."""

import numpy as np
import pytest

from clippy_core.errors import UsageError
from clippy_core.kernels import label_map
from clippy_core.segmentation.options import SegmentOptions
from clippy_core.segmentation.refine import LARGEST_SIDE, PIXELS_A_CELL, GuidedFilter, pixels_a_cell, refine


def by_least_squares(guide, plane, radius, epsilon):
    """The filter as its paper defines it: a ridge regression on colour in every window, then the mean of all windows
    that hold a pixel. Windows at the rim see the picture mirrored."""
    height, width, _ = guide.shape
    pad = 2 * radius
    guide = np.pad(guide.astype(np.float64), ((pad, pad), (pad, pad), (0, 0)), mode="symmetric")
    plane = np.pad(plane.astype(np.float64), pad, mode="symmetric")
    slopes, offsets = np.zeros((height, width, 3)), np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            window = np.s_[y + pad - radius : y + pad + radius + 1, x + pad - radius : x + pad + radius + 1]
            colours, values = guide[window].reshape(-1, 3), plane[window].ravel()
            centred = colours - colours.mean(0)
            gram = centred.T @ centred + epsilon * len(colours) * np.eye(3)
            slopes[y, x] = np.linalg.solve(gram, centred.T @ (values - values.mean()))
            offsets[y, x] = values.mean() - slopes[y, x] @ colours.mean(0)
    result = np.zeros((height, width))
    slopes = np.pad(slopes, ((radius, radius), (radius, radius), (0, 0)), mode="symmetric")
    offsets = np.pad(offsets, radius, mode="symmetric")
    inside = guide[pad : pad + height, pad : pad + width]
    for y in range(height):
        for x in range(width):
            window = np.s_[y : y + 2 * radius + 1, x : x + 2 * radius + 1]
            result[y, x] = slopes[window].reshape(-1, 3).mean(0) @ inside[y, x] + offsets[window].mean()
    return result


@pytest.mark.parametrize(("shape", "radius"), [((9, 13), 2), ((6, 5), 1), ((7, 7), 3)])
def test_the_filter_is_the_paper_s_window_by_window(shape, radius):
    rng = np.random.default_rng(3)
    guide = rng.random((*shape, 3), np.float32)
    plane = rng.random(shape, np.float32)
    found = GuidedFilter(guide, radius, 1e-2)(plane)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, by_least_squares(guide, plane, radius, 1e-2), atol=2e-5)


def two_halves(border, size=(128, 160)):
    """A picture that is red left of ``border`` and blue right of it, with some noise."""
    pixels = np.zeros((*size, 3), np.float64)
    pixels[:, :border, 0] = pixels[:, border:, 2] = 200
    return (pixels + np.random.default_rng(0).normal(20, 4, pixels.shape)).clip(0, 255).astype(np.uint8)


def test_a_border_moves_to_the_picture_s_edge():
    border = 66  # the grid says 72, the middle of a cell of 16 pixels
    logits = np.full((8, 10, 2), 0.2, np.float32)
    logits[:, :4, 0] = logits[:, 5:, 1] = 0.5
    pixels = two_halves(border)
    truth = np.broadcast_to(np.arange(160) >= border, (128, 160))
    plain = label_map(logits, (128, 160)).labels_HW
    fine = refine(logits, pixels, np.array([0, 1]), (0, 1))
    assert fine.shape == (8 * PIXELS_A_CELL, 10 * PIXELS_A_CELL, 2)
    refined = label_map(fine, (128, 160)).labels_HW
    assert (plain != truth).sum() == 6 * 128
    assert (refined != truth).sum() <= 128  # a pixel a row at most


def test_without_edges_labels_stay_away_from_borders():
    logits = np.full((6, 6, 3), 0.1, np.float32)
    logits[:3, :, 0] = logits[3:, :, 2] = 0.6
    fine = refine(logits, np.full((96, 96, 3), 90, np.uint8), np.array([0, 2]), (0, 1, 2))
    refined = np.array([0, 2])[label_map(fine, (96, 96)).labels_HW]
    np.testing.assert_array_equal(refined[:40], 0)
    np.testing.assert_array_equal(refined[56:], 2)
    np.testing.assert_allclose(fine.sum(-1), 1, atol=1e-3)  # linear, so likelihoods still add up


def test_a_label_is_as_likely_as_its_best_word():
    rng = np.random.default_rng(5)
    logits = rng.normal(0, 0.1, (4, 5, 5)).astype(np.float32)
    groups = (0, 0, 1, 3, 3)
    best = np.stack([logits[..., :2].max(-1), logits[..., 3:].max(-1)], -1)
    pixels = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)
    with_words = refine(logits, pixels, np.array([0, 3]), groups)
    np.testing.assert_array_equal(with_words, refine(np.ascontiguousarray(best), pixels, np.array([0, 1]), (0, 1)))


def test_a_large_grid_gets_fewer_pixels_a_cell():
    assert pixels_a_cell((14, 20)) == PIXELS_A_CELL
    assert pixels_a_cell((10, 128)) == LARGEST_SIDE // 128
    assert pixels_a_cell((4096, 3)) == 1


def test_segmenting_refines_among_the_labels_it_found(segmenter):
    pixels = two_halves(66)
    plain = segmenter.segment(pixels, ["red", "blue", "green"], size=64)
    refined = segmenter.segment(pixels, ["red", "blue", "green"], size=64, refine="guided")
    assert set(np.unique(refined.label_map)) <= set(np.unique(plain.label_map))
    assert refined.label_map.dtype == plain.label_map.dtype
    np.testing.assert_array_equal(refined.scores, plain.scores)


def test_more_labels_than_can_be_refined_are_a_note(segmenter, monkeypatch):
    pixels = np.random.default_rng(3).integers(0, 256, (96, 120, 3), np.uint8)
    labels = [f"word {number}" for number in range(20)]
    plain = segmenter.segment(pixels, labels, size=64)
    found = len(np.unique(plain.label_map))
    assert found > 1
    monkeypatch.setattr("clippy_core.segmentation.refine.MOST_CANDIDATES", found - 1)
    result = segmenter.segment(pixels, labels, size=64, refine="guided")
    np.testing.assert_array_equal(result.label_map, plain.label_map)
    note = f"borders were not refined: {found} labels were found in this picture; accepted: up to {found - 1}"
    assert result.picture.notes == (note,)
    assert result.to_dict()["notes"] == [note]
    assert plain.picture.notes == ()


def test_an_unknown_refinement_is_a_usage_error():
    with pytest.raises(UsageError, match="--refine is 'crf'; accepted: none, guided"):
        SegmentOptions(refine="crf")
