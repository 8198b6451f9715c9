"""Top-k accuracy against scikit-learn's and by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import top_k_accuracy_score

from clippy_core.errors import DataError
from clippy_core.evaluation.classification import TopK, ranks_of_truth


@given(st.integers(0, 2**32 - 1))
def test_accuracy_is_scikit_learn_s_in_parts_and_whole(seed):
    rng = np.random.default_rng(seed)
    scores, truth = rng.normal(size=(30, 8)), rng.integers(0, 8, 30)
    whole, parts = TopK(8), [TopK(8), TopK(8)]
    whole.add(scores, truth)
    parts[0].add(scores[:11], truth[:11])
    parts[1].add(scores[11:], truth[11:])
    parts[0].counts += parts[1].counts
    assert np.array_equal(parts[0].counts, whole.counts)
    for k in (1, 5):
        assert whole.accuracy(k) == pytest.approx(top_k_accuracy_score(truth, scores, k=k, labels=range(8)))


def test_by_hand_with_ties_against_the_model():
    top = TopK(3, ks=(1, 2))
    top.add(np.array([[0.9, 0.1, 0.0], [0.5, 0.5, 0.1], [0.2, 0.2, 0.2]]), np.array([0, 1, 2]))
    assert top.counts.tolist() == [[1, 1, 1], [1, 0, 1], [1, 0, 0]]
    assert (top.accuracy(1), top.accuracy(2)) == (1 / 3, 2 / 3)
    assert top.per_class(2).tolist() == [1, 1, 0]


def test_no_picture_is_not_a_number():
    assert np.isnan([TopK(2).accuracy(), *TopK(2).per_class()]).all()


@pytest.mark.parametrize(("shape", "truth"), [((2, 3), [0]), ((1, 4), [0]), ((1, 3), [3]), ((1, 3), [-1])])
def test_what_does_not_fit_is_an_error(shape, truth):
    with pytest.raises(DataError, match="do not fit"):
        TopK(3).add(np.zeros(shape), np.array(truth))


def test_ranks_by_hand():
    scores = np.array([[3.0, 2.0, 2.0, 1.0]]).repeat(4, 0)
    assert ranks_of_truth(scores, np.arange(4)).tolist() == [0, 2, 2, 3]
    assert ranks_of_truth(scores, np.arange(4), in_order=True).tolist() == [0, 1, 2, 3]


def test_ranks_in_order_are_an_argmax_and_a_stable_sort():
    rng = np.random.default_rng(0)
    scores, truth = rng.integers(0, 4, (200, 9)).astype(float), rng.integers(0, 9, 200)
    ranks = ranks_of_truth(scores, truth, in_order=True)
    assert ((ranks == 0) == (scores.argmax(1) == truth)).all()
    order = np.argsort(-scores, axis=1, kind="stable")
    assert ranks.tolist() == (order == truth[:, None]).argmax(1).tolist()


@pytest.mark.parametrize("in_order", [False, True])
def test_what_is_not_a_number_is_never_right(in_order):
    nan = float("nan")
    scores = np.array([[nan, nan, nan], [0.9, nan, 0.1], [nan, 0.1, 0.2]])
    assert ranks_of_truth(scores, np.array([0, 0, 0]), in_order=in_order).tolist() == [2, 1, 2]
    top = TopK(3, ks=(1,))
    top.add(scores, np.array([0, 0, 0]))
    assert top.accuracy() == 0
