"""JS by hand, and against a count of pixel sets."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clippy_core.errors import DataError
from clippy_core.evaluation.jaccard import Jaccard, best_overlaps

OBJECTS = np.array([[1, 1, 0, 0], [1, 1, 0, 2], [0, 0, 0, 2], [0, 0, 0, 2]])
SEGMENTS = np.array([[5, 5, 0, 0], [5, 0, 0, 0], [0, 0, 3, 3], [0, 0, 3, 3]])


def test_by_hand():
    # Object 1 (4 pixels): segment 5 has 3 of them and nothing else. Object 2 (3): segment 3 has 2, and 2 others.
    assert best_overlaps(OBJECTS, SEGMENTS).tolist() == [3 / 4, 2 / 5]
    jaccard = Jaccard()
    jaccard.add(OBJECTS, SEGMENTS)
    jaccard.add(np.ones((2, 2), int), np.array([[0, 0], [0, 1]]))
    assert jaccard.counts[1] == 3
    assert jaccard.mean == pytest.approx((3 / 4 + 2 / 5 + 3 / 4) / 3, abs=1e-9)


def test_ignored_pixels_are_neither_hit_nor_miss():
    objects = np.where(SEGMENTS == 3, np.where(OBJECTS == 2, 2, 255), OBJECTS)
    # The segment's two pixels outside of object 2 are ignored; its third pixel is still missed.
    assert best_overlaps(objects, SEGMENTS, ignore=255).tolist() == [3 / 4, 2 / 3]


def by_sets(objects, segments):
    found = []
    for number in sorted(set(objects.ravel().tolist()) - {0}):
        own = {tuple(place) for place in np.argwhere(objects == number)}
        each = [{tuple(place) for place in np.argwhere(segments == segment)} for segment in np.unique(segments)]
        found.append(max(len(own & segment) / len(own | segment) for segment in each))
    return found


@given(st.integers(0, 2**32 - 1))
def test_against_sets_of_pixels(seed):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 8, 2))
    objects, segments = rng.integers(0, 5, shape).astype(np.uint8), rng.integers(0, 4, shape)
    assert best_overlaps(objects, segments).tolist() == pytest.approx(by_sets(objects, segments))


@given(st.integers(0, 2**32 - 1))
def test_parts_add_up_to_the_whole_in_any_order(seed):
    rng = np.random.default_rng(seed)
    pictures = [(rng.integers(0, 4, (6, 6)), rng.integers(0, 3, (6, 6))) for _ in range(5)]
    whole, parts = Jaccard(), [Jaccard(), Jaccard()]
    for number, picture in enumerate(pictures):
        whole.add(*picture)
        parts[number % 2].add(*picture)
    parts[1].counts += parts[0].counts
    assert parts[1].counts.tolist() == whole.counts.tolist()
    assert whole.mean == pytest.approx(
        np.mean([value for picture in pictures for value in by_sets(*picture)]), abs=1e-9
    )


@pytest.mark.parametrize(
    ("segments", "want"),
    [(OBJECTS, 1.0), (np.zeros((4, 4), int), (4 / 16 + 3 / 16) / 2)],
    ids=["perfect", "one segment"],
)
def test_a_perfect_and_a_constant_grouping(segments, want):
    jaccard = Jaccard()
    jaccard.add(OBJECTS, segments)
    assert jaccard.mean == pytest.approx(want, abs=1e-9)


def test_no_object_is_not_a_number():
    jaccard = Jaccard()
    jaccard.add(np.zeros((3, 3), int), np.ones((3, 3), int))
    jaccard.add(np.full((3, 3), 255), np.ones((3, 3), int), ignore=255)
    assert jaccard.counts.tolist() == [0, 0]
    assert np.isnan(jaccard.mean)


def test_shapes_that_differ_are_an_error():
    with pytest.raises(DataError, match=r"objects of shape \(4, 4\) and segments of shape \(2, 2\)"):
        best_overlaps(OBJECTS, OBJECTS[:2, :2])
