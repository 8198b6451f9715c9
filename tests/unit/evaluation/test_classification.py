"""Top-k accuracy against scikit-learn's and by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import top_k_accuracy_score

from clippy_core.errors import DataError
from clippy_core.evaluation.classification import TopK


@settings(deadline=None)
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
