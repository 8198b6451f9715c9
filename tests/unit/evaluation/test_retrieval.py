"""Recall against a sort of the whole similarity matrix."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clippy_core.errors import DataError
from clippy_core.evaluation.retrieval import ranks, recall


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def brute_force(cosines_NM, owners_M):
    """Ranks by sorting, with a wrong one before a right one that is equal."""
    of_images, of_texts = [], []
    for image, row in enumerate(cosines_NM):
        order = sorted(range(len(row)), key=lambda text: (-row[text], owners_M[text] == image))
        first = next(place for place, text in enumerate(order) if owners_M[text] == image)
        of_images.append(first)
    for text, column in enumerate(cosines_NM.T):
        order = sorted(range(len(column)), key=lambda image: (-column[image], owners_M[text] == image))
        of_texts.append(order.index(owners_M[text]))
    return of_images, of_texts


@given(st.integers(0, 2**32 - 1), st.integers(1, 9))
def test_ranks_are_those_of_a_sort(seed, tile):
    rng = np.random.default_rng(seed)
    pictures, captions = int(rng.integers(1, 12)), int(rng.integers(0, 12))
    owners = np.concatenate([np.arange(pictures), rng.integers(0, pictures, captions)])
    rng.shuffle(owners)
    images, texts = unit(rng.normal(size=(pictures, 6))), unit(rng.normal(size=(len(owners), 6)))
    want = brute_force(images.astype(np.float64) @ texts.T.astype(np.float64), owners)
    of_images, of_texts = ranks(images, texts, owners, tile=tile)
    assert (of_images.tolist(), of_texts.tolist()) == want


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 3, 7, 100]))
def test_equal_captions_count_against_the_model_whatever_the_tiles(seed, tile):
    rng = np.random.default_rng(seed)
    images, texts = unit(rng.normal(size=(10, 33))), unit(rng.normal(size=(10, 33)))
    images[[2, 5, 9]] = images[2]
    texts[[1, 2, 8]] = texts[1]
    same = ranks(images, texts, tile=100)
    tiled = ranks(images, texts, tile=tile)
    assert all(np.array_equal(*pair) for pair in zip(same, tiled, strict=True))
    of_images, of_texts = tiled
    assert (of_images[[1, 2, 8]] >= 2).all()
    assert (of_texts[[2, 5, 9]] >= 2).all()


def test_a_constant_model_finds_nothing():
    vectors = np.ones((20, 4), np.float32) / 2
    assert set(recall(vectors, vectors).values()) == {0.0}


def test_a_perfect_model_finds_everything():
    assert set(recall(np.eye(12, dtype=np.float32), np.eye(12, dtype=np.float32)).values()) == {1.0}


def test_recall_by_hand():
    images = np.eye(3)
    texts = unit(np.array([[1.0, 0, 0], [1, 0.5, 0], [0, 0, 1]]))  # the second caption is nearer to the first picture
    assert recall(images, texts) == {
        "image to text R@1": 1.0,
        "image to text R@5": 1.0,
        "image to text R@10": 1.0,
        "text to image R@1": pytest.approx(2 / 3),
        "text to image R@5": 1.0,
        "text to image R@10": 1.0,
    }


def test_more_captions_than_one_a_picture():
    images, texts = np.eye(2), unit(np.array([[0.0, 1], [1, 0], [1, 0.1], [0, 1]]))
    of_images, of_texts = ranks(images, texts, np.array([0, 0, 0, 1]))
    # Picture 0's best caption is a perfect one; picture 1's is as near as a wrong caption.
    assert of_images.tolist() == [0, 1]
    assert of_texts.tolist() == [1, 0, 0, 0]


@pytest.mark.parametrize(
    ("images", "texts", "owners", "message"),
    [
        ((3, 4), (3, 5), None, "do not fit"),
        ((3, 4), (3, 4), np.array([0, 1]), "do not fit"),
        ((3, 4), (2, 4), None, "3 pictures, but captions of 2; each needs one"),
        ((3, 4), (3, 4), np.array([0, 0, 2]), "3 pictures, but captions of 2; each needs one"),
        ((3, 4), (3, 4), np.array([0, 1, 3]), "3 pictures, but captions of 3"),
    ],
)
def test_what_does_not_fit_is_an_error(images, texts, owners, message):
    with pytest.raises(DataError, match=message):
        ranks(np.zeros(images), np.zeros(texts), owners)
