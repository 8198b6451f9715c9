"""From bytes to one clean line."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clippy_core.errors import DataError
from clippy_core.training.data.captions import cleaned, parse, parse_box, pick, shown


@pytest.mark.parametrize(
    ("data", "is_json", "expected"),
    [
        (b"a dog", False, "a dog"),
        (b"\xef\xbb\xbfa dog\r\n", False, "a dog"),
        (b"  a\tdog\x00\x1b[2J on   grass ", False, "a dog [2J on grass"),
        (b"a dog\n\n \na cat\r", False, "a dog\na cat"),
        ("ein Bär \U0001f43b".encode(), False, "ein Bär \U0001f43b"),
        (b"caf\xe9", False, "caf\ufffd"),
        (b'{"caption": "a dog\\non grass"}', True, "a dog on grass"),
        (b'{"caption": ["a dog", "", "a cat"]}', True, "a dog\na cat"),
        (b'{"caption": "half \\ud800 a pair"}', True, "half ? a pair"),
    ],
)
def test_captions_are_found(data, is_json, expected):
    assert parse(data, is_json=is_json) == expected


@pytest.mark.parametrize(
    ("data", "is_json", "message"),
    [
        (b"", False, "empty"),
        (b" \n\t\x00", False, "empty"),
        (b"x" * ((1 << 20) + 1), False, "1,048,577 bytes"),
        (b'{"caption": ""}', True, "empty"),
        (b'{"caption": null}', True, "no text"),
        (b'{"caption": [1]}', True, "no text"),
        (b"[]", True, "no text"),
        (b"{", True, "cannot be read"),
        (b"[" * 100_000, True, "cannot be read"),
    ],
)
def test_what_is_no_caption_is_refused(data, is_json, message):
    with pytest.raises(DataError, match=message):
        parse(data, is_json=is_json)


@given(st.text())
def test_cleaned_is_one_line_and_stays_as_it_is(text):
    line = cleaned(text)
    assert len(line.splitlines()) <= 1
    assert cleaned(line) == line
    line.encode()


@given(st.text())
def test_shown_is_printable(text):
    assert shown(text).isprintable()


def test_one_of_several_is_drawn():
    drawn = {pick("a\nb\nc", np.random.default_rng(seed)) for seed in range(50)}
    assert drawn == {"a", "b", "c"}
    assert pick("a", np.random.default_rng(0)) == "a"


def test_a_box_says_which_part_is_meant():
    assert parse_box(b'{"caption": "a", "box": [0, 0.25, 0.5, 1]}') == (0.0, 0.25, 0.5, 1.0)
    assert parse_box(b'{"caption": "a"}') is None


@pytest.mark.parametrize("box", ["[0, 0, 0, 1]", "[0, 0.5, 1, 0.2]", "[0, 0, 1]", '"all"', "[0, 0, 1.5, 1]"])
def test_a_box_that_is_none_is_named(box):
    with pytest.raises(DataError, match=r"accepted: \[left, top, right, bottom\]"):
        parse_box(f'{{"caption": "a", "box": {box}}}'.encode())
