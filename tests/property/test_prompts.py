"""Labels written down are labels read back, whatever their words."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clippy_core.errors import UsageError
from clippy_core.prompts import MAX_WORD_CHARACTERS, Label, parse_label, parse_labels, read_labels

# Words in their canonical form: no bar, no control characters, single spaces inside, something visible.
CHARACTERS = st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp"), exclude_characters="|")
WORDS = (
    st.text(CHARACTERS, min_size=1, max_size=30)
    .map(lambda text: " ".join(text.split()))
    .filter(lambda text: any(character.isprintable() and not character.isspace() for character in text))
)
LABELS = st.lists(st.lists(WORDS, min_size=1, max_size=3), min_size=1, max_size=6).filter(
    lambda labels: len({word.casefold() for words in labels for word in words}) == sum(map(len, labels))
)


def as_labels(labels):
    return tuple(Label(words[0], tuple(words)) for words in labels)


@given(LABELS)
def test_a_sequence_of_labels_is_read_back(labels):
    assert parse_labels(["|".join(words) for words in labels]) == as_labels(labels)


@given(LABELS)
def test_a_line_of_labels_is_read_back(labels):
    line = io.StringIO()
    csv.writer(line, quoting=csv.QUOTE_ALL, lineterminator="").writerow(["|".join(words) for words in labels])
    assert parse_labels(line.getvalue()) == as_labels(labels)


@given(LABELS)
def test_a_file_of_labels_is_read_back(tmp_path_factory, labels):
    path = tmp_path_factory.getbasetemp() / "labels.txt"
    quoted = ['"' + "|".join(words).replace('"', '""') + '"' for words in labels]
    path.write_text("\n".join(quoted), encoding="utf-8")
    assert read_labels(path) == as_labels(labels)


@given(st.text(max_size=60))
def test_any_text_is_a_label_set_or_a_usage_error_of_one_line(text):
    try:
        labels, message = parse_labels(text), "labels"
    except UsageError as error:
        labels, message = (), str(error)
    assert len(message.splitlines()) == 1
    words = [word for label in labels for word in label.words]
    assert len({word.casefold() for word in words}) == len(words)
    assert all(word == " ".join(word.split()) and word and len(word) <= MAX_WORD_CHARACTERS for word in words)


@given(WORDS)
def test_parsing_a_word_that_was_parsed_changes_nothing(word):
    (once,) = parse_label(f"  {word}\t").words
    assert parse_label(once).words == (once,)


@given(LABELS, st.randoms())
def test_a_word_in_another_case_is_a_repetition(labels, random):
    word = random.choice([word for words in labels for word in words])
    again = random.choice([word.upper(), word.lower(), word.swapcase(), word])
    if again.casefold() != word.casefold():  # a few letters have no round trip through upper case
        again = word
    with pytest.raises(UsageError, match="repeated"):
        parse_labels([*("|".join(words) for words in labels), again])
