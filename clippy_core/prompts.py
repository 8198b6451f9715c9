"""Labels, synonyms and prompt templates.

A label is a name and the words that mean it: ``dog|puppy`` is the label *dog* with two words. Every word is put into
every template; a word's embedding is the mean over templates, a label's score the maximum over its words.
"""

import csv
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from clippy_core.errors import DataError, UsageError

MAX_LABELS = 65_534
MAX_WORD_CHARACTERS = 500


@dataclass(frozen=True)
class Label:
    """A thing to look for.

    Attributes:
        name: What it is called in outputs; the first of ``words``.
        words: One or more synonyms, each of which stands for the label.
    """

    name: str
    words: tuple[str, ...]


def parse_label(text: str) -> Label:
    """One label in the ``dog|puppy`` syntax.

    Raises:
        UsageError: An empty, over-long or repeated word, or one with a control character.
    """
    if not isinstance(text, str):
        raise UsageError(f"a label is text such as 'dog|puppy', not {type(text).__name__}")
    for word in text.split("|"):
        _check_word(word.strip(" \t"), text)
    words = tuple(" ".join(word.split()) for word in text.split("|"))
    if len({word.casefold() for word in words}) < len(words):
        raise UsageError(f"label {_shown(text)} repeats a synonym")
    return Label(words[0], words)


def parse_labels(labels: str | Iterable[str | Label]) -> tuple[Label, ...]:
    """A label set, from ``"dog|puppy,grass"`` or from a sequence with one label an item.

    In a string, a label that contains a comma is put in double quotes: ``'"salt, pepper",plate'``.

    Raises:
        UsageError: No label, a repeated word, more than 65,534 labels, or a label that :func:`parse_label` refuses.
    """
    items: Sequence[str | Label] = _split(labels) if isinstance(labels, str) else list(labels)
    parsed = tuple(item if isinstance(item, Label) else parse_label(item) for item in items)
    if not parsed:
        raise UsageError("the label set is empty; give at least one, such as --labels dog,grass")
    if len(parsed) > MAX_LABELS:
        raise UsageError(f"{len(parsed):,} labels were given; at most {MAX_LABELS:,} fit into a label map")
    seen: dict[str, str] = {}
    for label in parsed:
        for word in label.words:
            if word.casefold() in seen:
                raise UsageError(f"label {_shown(word)} is repeated")
            seen[word.casefold()] = label.name
    return parsed


def read_labels(path: str | Path) -> tuple[Label, ...]:
    """A label set from a UTF-8 text file with one label a line; blank lines are skipped.

    Raises:
        DataError: The file cannot be read or is not UTF-8 text.
        UsageError: As :func:`parse_labels`; also a line with a bare comma, which could be one label or several.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"labels file {str(path)!r} is not UTF-8 text (byte {error.start})") from error
    except OSError as error:
        raise DataError(f"labels file {str(path)!r} cannot be read: {error.strerror}") from error
    labels: list[str] = []
    for number, line in enumerate(lines, start=1):
        items = _split(line)
        if len(items) > 1:
            raise UsageError(
                f"labels file {str(path)!r}, line {number}: a comma; put one label on a line, "
                "or double quotes around a label that contains one"
            )
        labels += items
    if not labels:
        raise UsageError(f"labels file {str(path)!r} names no label; one a line is expected")
    return parse_labels(labels)


def check_templates(templates: Iterable[str]) -> tuple[str, ...]:
    """The templates, each with exactly one ``{}``.

    Raises:
        UsageError: No template, or one without exactly one ``{}``.
    """
    checked = tuple(templates)
    if not checked:
        raise UsageError("no prompt template was given; one such as 'a photo of a {}.' is expected")
    for template in checked:
        if template.count("{}") != 1:
            raise UsageError(f"template {_shown(template)} must contain {{}} exactly once, as in 'a photo of a {{}}.'")
    return checked


def _split(text: str) -> list[str]:
    if not text.strip():
        return []
    try:
        rows = list(csv.reader([text], skipinitialspace=True, strict=True))
    except csv.Error as error:
        raise UsageError(f"labels {_shown(text)} cannot be split at commas: {error}") from error
    return [item for row in rows for item in row]


def _check_word(word: str, text: str) -> None:
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in word):
        raise UsageError(f"label {_shown(word)} contains a line break or another control character")
    if all(character.isspace() or not character.isprintable() for character in word):
        blank = all(character.isspace() or not character.isprintable() for character in text)
        raise UsageError("a label is empty" if blank else f"label {_shown(text)} has an empty synonym")
    if len(word) > MAX_WORD_CHARACTERS:
        raise UsageError(
            f"label {_shown(word)} has {len(word):,} characters; at most {MAX_WORD_CHARACTERS} are accepted"
        )


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "…")
