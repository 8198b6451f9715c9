"""Counts against scikit-learn's, and figures worked out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, confusion_matrix, jaccard_score

from clippy_core.errors import DataError
from clippy_core.evaluation.confusion import Confusion

seeds = st.integers(0, 2**32 - 1)


def random_maps(seed, classes, pictures=3):
    rng = np.random.default_rng(seed)
    for _ in range(pictures):
        shape = rng.integers(1, 9, 2)
        truth = rng.integers(0, classes, shape).astype(np.uint8)
        predicted = np.where(rng.random(shape) < 0.6, truth, rng.integers(0, classes, shape)).astype(np.uint16)
        truth[rng.random(shape) < 0.2] = 255
        yield truth, predicted


@given(seeds, st.integers(2, 7))
def test_counts_and_figures_are_scikit_learn_s(seed, classes):
    confusion, truths, predictions = Confusion(classes, ignore=255), [], []
    for truth, predicted in random_maps(seed, classes):
        confusion.add(truth, predicted)
        truths.append(truth[truth != 255])
        predictions.append(predicted[truth != 255])
    truth, predicted = np.concatenate(truths).astype(int), np.concatenate(predictions).astype(int)
    labels = list(range(classes))
    if not truth.size:
        assert confusion.counts.sum() == 0
        return
    assert np.array_equal(confusion.counts[:, :-1], confusion_matrix(truth, predicted, labels=labels))
    assert confusion.counts[:, -1].sum() == 0
    present = sorted(set(truth) | set(predicted))
    want = jaccard_score(truth, predicted, labels=present, average=None)
    assert confusion.iou[present] == pytest.approx(want)
    assert np.isnan(np.delete(confusion.iou, present)).all()
    assert confusion.miou == pytest.approx(want.mean())
    assert confusion.accuracy == pytest.approx(accuracy_score(truth, predicted))


def test_by_hand():
    confusion = Confusion(3, ignore=9)
    confusion.add(np.array([[0, 0, 1], [1, 9, 9]]), np.array([[0, 1, 1], [7, 0, 2]]))
    assert confusion.counts.tolist() == [[1, 1, 0, 0], [0, 1, 0, 1], [0, 0, 0, 0]]
    assert confusion.iou[:2].tolist() == [1 / 2, 1 / 3]  # class 1: one right, one missed, one false alarm
    assert np.isnan(confusion.iou[2])
    assert confusion.miou == pytest.approx((1 / 2 + 1 / 3) / 2)
    assert confusion.accuracy == 2 / 4


def test_a_perfect_and_a_constant_predictor():
    truth = np.repeat(np.arange(4), 25).reshape(10, 10)
    perfect, constant = Confusion(4), Confusion(4)
    perfect.add(truth, truth)
    constant.add(truth, np.zeros_like(truth))
    assert (perfect.miou, perfect.accuracy) == (1.0, 1.0)
    assert constant.miou == (1 / 4 + 0 + 0 + 0) / 4
    assert constant.accuracy == 1 / 4


@given(seeds)
def test_parts_add_up_to_the_whole(seed):
    whole, parts = Confusion(5, 255), [Confusion(5, 255), Confusion(5, 255)]
    for number, (truth, predicted) in enumerate(random_maps(seed, 5, pictures=5)):
        whole.add(truth, predicted)
        parts[number % 2].add(truth, predicted)
    parts[0].counts += parts[1].counts
    assert np.array_equal(parts[0].counts, whole.counts)


def test_counts_stay_exact_where_float32_would_not():
    confusion = Confusion(2)
    confusion.counts[0, 0] = 2**53
    confusion.add(np.zeros((1, 1), int), np.zeros((1, 1), int))
    assert confusion.counts[0, 0] == 2**53 + 1


def test_nothing_counted_is_not_a_number():
    assert np.isnan([Confusion(3).miou, Confusion(3).accuracy]).all()


@pytest.mark.parametrize(
    ("truth", "predicted", "message"),
    [
        ([[0, 3]], [[0, 0]], "a mask has the value 3; accepted: 0 to 2, and 255 for pixels that are not counted"),
        ([[0, -1]], [[0, 0]], "a mask has the value -1"),
        ([[0, 1]], [[0], [1]], r"a mask of shape \(1, 2\) and a label map of shape \(2, 1\)"),
    ],
)
def test_a_mask_that_does_not_fit_is_an_error(truth, predicted, message):
    with pytest.raises(DataError, match=message):
        Confusion(3, ignore=255).add(np.array(truth), np.array(predicted))
