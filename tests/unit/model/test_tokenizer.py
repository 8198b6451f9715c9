"""Texts to numbers: padding, cutting, and files that are no tokenizer."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clippy_core.errors import CheckpointError
from clippy_core.model.tokenizer import Tokenizer

CLS, SEP, UNKNOWN = 2, 3, 1


@pytest.fixture(scope="module")
def file(tmp_path_factory, tokenizer_json):
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    path.write_bytes(tokenizer_json)
    return path


def test_texts_are_padded_at_the_right_to_the_longest(file):
    ids_BL, mask_BL = Tokenizer(file, 16)(["dog", "a photo of a dog."])
    assert ids_BL.tolist() == [[CLS, 9, SEP, 0, 0, 0, 0, 0], [CLS, 5, 6, 7, 5, 9, 19, SEP]]
    assert mask_BL.tolist() == [[1, 1, 1, 0, 0, 0, 0, 0], [1] * 8]
    assert ids_BL.dtype == mask_BL.dtype == np.int64


def test_long_texts_are_cut_with_their_closing_token_kept(file):
    ids_BL, mask_BL = Tokenizer(file, 5)(["dog " * 100])
    assert ids_BL.tolist() == [[CLS, 9, 9, 9, SEP]]
    assert mask_BL.all()


def test_case_and_unknown_words(file):
    ids_BL, _ = Tokenizer(file, 16)(["DOG zebra dogs", ""])
    assert ids_BL.tolist() == [[CLS, 9, UNKNOWN, 9, 21, SEP], [CLS, SEP, 0, 0, 0, 0]]


@given(texts=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=200), min_size=1, max_size=6))
def test_any_text_gives_rows_of_tokens_then_padding(file, texts):
    ids_BL, mask_BL = Tokenizer(file, 16)(texts)
    assert ids_BL.shape == mask_BL.shape
    assert len(ids_BL) == len(texts)
    lengths = mask_BL.sum(1)
    assert lengths.max() == ids_BL.shape[1]
    assert lengths.min() >= 2
    assert lengths.max() <= 16
    assert (mask_BL == (np.arange(ids_BL.shape[1]) < lengths[:, None])).all()
    assert (ids_BL[mask_BL == 0] == 0).all()
    assert (ids_BL[:, 0] == CLS).all()


def test_padding_and_truncation_written_in_the_file_do_not_matter(file, tmp_path):
    from tokenizers import Tokenizer as Backend

    backend = Backend.from_file(str(file))
    backend.enable_padding(length=40)
    backend.enable_truncation(3)
    backend.save(str(tmp_path / "tokenizer.json"))
    ids_BL, _ = Tokenizer(tmp_path / "tokenizer.json", 16)(["a photo of a dog."])
    assert ids_BL.shape == (1, 8)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "has no tokenizer.json"),
        (b"", "not a tokenizer"),
        (b"{}", "not a tokenizer"),
        (b"<html>not found</html>", "not a tokenizer"),
        (b"\xff\xfe\x00", "not a tokenizer"),
        (b'{"model": {"type": "Nope"}}', "not a tokenizer"),
    ],
)
def test_a_file_that_is_no_tokenizer_is_named(tmp_path, content, message):
    path = tmp_path / "tokenizer.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as caught:
        Tokenizer(path, 16)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
