"""Labels as people write them: what each text means, and what is refused with which words."""

import os

import pytest

from clippy_core.errors import DataError, UsageError
from clippy_core.prompts import (
    MAX_LABELS,
    MAX_WORD_CHARACTERS,
    Label,
    check_templates,
    parse_label,
    parse_labels,
    read_labels,
)


def words_of(labels):
    return [label.words for label in labels]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("dog", [("dog",)], id="one"),
        pytest.param("dog,grass,sky", [("dog",), ("grass",), ("sky",)], id="several"),
        pytest.param(" dog ,\tgrass , sky ", [("dog",), ("grass",), ("sky",)], id="spaces and tabs around"),
        pytest.param("dog|puppy,grass|lawn|meadow", [("dog", "puppy"), ("grass", "lawn", "meadow")], id="synonyms"),
        pytest.param("dog | puppy", [("dog", "puppy")], id="spaces around the bar"),
        pytest.param("traffic  light", [("traffic light",)], id="inner spaces become one"),
        pytest.param('"salt, pepper",plate', [("salt, pepper",), ("plate",)], id="comma in quotes"),
        pytest.param('plate, "salt, pepper"', [("plate",), ("salt, pepper",)], id="space before the quote"),
        pytest.param('"a ""big"" dog"', [('a "big" dog',)], id="doubled quotes"),
        pytest.param('6" pipe,wall', [('6" pipe',), ("wall",)], id="quote inside"),
        pytest.param("rock 'n' roll", [("rock 'n' roll",)], id="apostrophes"),
        pytest.param('"dog|puppy, small"', [("dog", "puppy, small")], id="synonyms in quotes"),
        pytest.param("Dog,DOGHOUSE", [("Dog",), ("DOGHOUSE",)], id="case is kept"),
        pytest.param("🐕,👨‍👩‍👧|family,🏳️‍🌈", [("🐕",), ("👨‍👩‍👧", "family"), ("🏳️‍🌈",)], id="emoji"),
        pytest.param("כלב,شجرة", [("כלב",), ("شجرة",)], id="right to left"),
        pytest.param("犬|いぬ,草", [("犬", "いぬ"), ("草",)], id="CJK"),
        pytest.param("犬、草", [("犬、草",)], id="an ideographic comma is no comma"),
        pytest.param("dog\u00a0house,\u3000grass", [("dog house",), ("grass",)], id="other spaces"),
        pytest.param("../../evil,/etc/x,-v", [("../../evil",), ("/etc/x",), ("-v",)], id="no file names"),
        pytest.param("{},{0},%s", [("{}",), ("{0}",), ("%s",)], id="no format strings"),
        pytest.param("x" * MAX_WORD_CHARACTERS, [("x" * MAX_WORD_CHARACTERS,)], id="as long as accepted"),
    ],
)
def test_what_a_text_means(text, words):
    labels = parse_labels(text)
    assert words_of(labels) == words
    assert [label.name for label in labels] == [first for first, *_ in words]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        pytest.param("", "the label set is empty", id="empty"),
        pytest.param("  \t ", "the label set is empty", id="blank"),
        pytest.param([], "the label set is empty", id="empty list"),
        pytest.param(",", "a label is empty", id="comma only"),
        pytest.param("dog,", "a label is empty", id="comma at the end"),
        pytest.param(",dog", "a label is empty", id="comma at the start"),
        pytest.param("dog,,grass", "a label is empty", id="two commas"),
        pytest.param('dog,""', "a label is empty", id="empty quotes"),
        pytest.param(["dog", ""], "a label is empty", id="empty item"),
        pytest.param("dog,\u00a0", "a label is empty", id="no-break space"),
        pytest.param(["\u3000"], "a label is empty", id="ideographic space"),
        pytest.param(["\u200b\u200d\ufeff"], "a label is empty", id="invisible characters"),
        pytest.param("|", "label '|' has an empty synonym", id="bar only"),
        pytest.param("dog|", "label 'dog|' has an empty synonym", id="bar at the end"),
        pytest.param("dog||puppy", "label 'dog||puppy' has an empty synonym", id="two bars"),
        pytest.param("dog| |puppy", "label 'dog| |puppy' has an empty synonym", id="blank synonym"),
        pytest.param("dog,dog", "label 'dog' is repeated", id="repeated"),
        pytest.param("dog,DOG", "label 'DOG' is repeated", id="repeated in another case"),
        pytest.param("straße,STRASSE", "label 'STRASSE' is repeated", id="repeated in another case of ß"),
        pytest.param("dog,  dog ", "label 'dog' is repeated", id="repeated with spaces"),
        pytest.param("dog|puppy,Puppy", "label 'Puppy' is repeated", id="repeated as a synonym"),
        pytest.param("dog|Dog", "label 'dog|Dog' repeats a synonym", id="repeated within a label"),
        pytest.param(["dog\n"], r"label 'dog\n' contains a line break", id="line break"),
        pytest.param(["dog\r\ncat"], r"label 'dog\r\ncat' contains a line break", id="line break inside"),
        pytest.param("dog\x1b[31m", r"label 'dog\x1b[31m' contains", id="terminal control"),
        pytest.param("dog\0", r"label 'dog\x00' contains", id="null"),
        pytest.param("dog\x85cat", r"label 'dog\x85cat' contains", id="next line"),
        pytest.param(os.fsdecode(b"caf\xe9"), r"label 'caf\udce9' contains", id="not UTF-8"),
        pytest.param('"dog', "cannot be split at commas", id="quote not closed"),
        pytest.param('"dog"house', "cannot be split at commas", id="text after a quote"),
        pytest.param("dog\ncat,x", "cannot be split at commas", id="two lines"),
        pytest.param("x" * (MAX_WORD_CHARACTERS + 1), "has 501 characters; at most 500", id="too long"),
        pytest.param("x" * 10_000, "has 10,000 characters; at most 500", id="10,000 characters"),
        pytest.param("x" * 200_000, "field limit", id="200,000 characters"),
        pytest.param(["dog", 7], "not int", id="a number"),
        pytest.param([None], "not NoneType", id="None"),
        pytest.param([b"dog"], "not bytes", id="bytes"),
    ],
)
def test_what_is_refused_and_what_it_says(labels, message):
    with pytest.raises(UsageError) as caught:
        parse_labels(labels)
    said = str(caught.value)
    assert message in said
    assert len(said) < 250
    assert said.splitlines() == [said]
    said.encode()


def test_a_sequence_has_one_label_an_item():
    assert words_of(parse_labels(["salt, pepper", "dog|puppy"])) == [("salt, pepper",), ("dog", "puppy")]
    assert words_of(parse_labels(word for word in ("a", "b"))) == [("a",), ("b",)]
    assert parse_labels([Label("dog", ("dog", "hound")), "cat"])[0].words == ("dog", "hound")


def test_the_name_is_the_first_word():
    assert parse_label("dog|puppy") == Label("dog", ("dog", "puppy"))


def test_as_many_labels_as_fit_into_a_label_map():
    labels = [f"label {number}" for number in range(MAX_LABELS)]
    assert MAX_LABELS == 65_534
    assert len(parse_labels(labels)) == MAX_LABELS
    assert len(parse_labels(",".join(labels))) == MAX_LABELS
    with pytest.raises(UsageError, match="65,535 labels were given; at most 65,534 fit"):
        parse_labels([*labels, "one more"])


# --- files -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(b"dog\ngrass\n", [("dog",), ("grass",)], id="plain"),
        pytest.param(b"dog\r\ngrass\r\n", [("dog",), ("grass",)], id="Windows"),
        pytest.param(b"dog|puppy\n\n  \ngrass", [("dog", "puppy"), ("grass",)], id="blank lines, no last line break"),
        pytest.param(b"\xef\xbb\xbfdog\n", [("dog",)], id="byte order mark"),
        pytest.param(b'"salt, pepper"\nplate\n', [("salt, pepper",), ("plate",)], id="comma in quotes"),
        pytest.param(b"# animals\ndog\n", [("# animals",), ("dog",)], id="no comments"),
        pytest.param("żółw 🐢\n".encode(), [("żółw 🐢",)], id="UTF-8"),
    ],
)
def test_a_labels_file_has_one_label_a_line(tmp_path, content, words):
    path = tmp_path / "labels.txt"
    path.write_bytes(content)
    assert words_of(read_labels(path)) == words
    assert words_of(read_labels(str(path))) == words


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        pytest.param(b"", UsageError, "names no label", id="empty"),
        pytest.param(b"\n \n", UsageError, "names no label", id="blank"),
        pytest.param(b"dog\ncat,bird\n", UsageError, "line 2: a comma", id="comma"),
        pytest.param(b"dog\nDog\n", UsageError, "label 'Dog' is repeated", id="repeated"),
        pytest.param(b"dog\n|\n", UsageError, "empty synonym", id="empty synonym"),
        pytest.param(b"dog\x07\n", UsageError, "control character", id="control character"),
        pytest.param(b"caf\xe9\n", DataError, "is not UTF-8 text (byte 3)", id="Latin-1"),
        pytest.param("dog\n".encode("utf-16"), DataError, "is not UTF-8 text (byte 0)", id="UTF-16"),
        pytest.param(b"\x89PNG\r\n\x1a\n\0\0", DataError, "is not UTF-8 text", id="a picture"),
        pytest.param(None, DataError, "cannot be read: No such file or directory", id="missing"),
    ],
)
def test_a_labels_file_that_is_refused(tmp_path, content, error, message):
    path = tmp_path / "labels.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(error) as caught:
        read_labels(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_is_no_labels_file(tmp_path):
    with pytest.raises(DataError, match="cannot be read: Is a directory"):
        read_labels(tmp_path)


# --- templates ---------------------------------------------------------------------------------------------------


def test_templates_with_one_place_for_the_word_are_accepted():
    templates = ["{}", "a photo of a {}.", "{} 🐕", "50% of {}"]
    assert check_templates(templates) == tuple(templates)


@pytest.mark.parametrize(
    ("templates", "message"),
    [
        pytest.param([], "no prompt template was given", id="none"),
        pytest.param([""], "exactly once", id="empty"),
        pytest.param(["a photo"], "template 'a photo' must contain {} exactly once", id="no place"),
        pytest.param(["{} and {}"], "exactly once", id="two places"),
        pytest.param(["{label}"], "exactly once", id="a named place"),
        pytest.param(["a {}", "a photo"], "template 'a photo'", id="the second"),
    ],
)
def test_templates_that_are_refused(templates, message):
    with pytest.raises(UsageError) as caught:
        check_templates(templates)
    assert message in str(caught.value)
