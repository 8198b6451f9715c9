"""What is said about a picture: from the bytes of a caption file to one clean line.

A caption file may hold several captions, one a line, or a JSON list of them. They travel as lines of one text, and
:func:`pick` draws one when the sample is used. In JSON a ``"box"`` may say which part of the picture is meant.
"""

import json
from typing import Any

import numpy as np

from clippy_core.errors import DataError
from clippy_core.training.data import Box

SUFFIXES = ("txt", "caption", "json")
"""Extensions of caption files, the preferred one first."""
LARGEST = 1 << 20
"""Bytes of a caption file beyond which it is taken for something else."""


def shown(text: str) -> str:
    """``text`` on one line, control characters escaped: a name in a tar file may be anything."""
    return "".join(
        character if character.isprintable() or character == " " else ascii(character)[1:-1] for character in text
    )


def cleaned(text: str) -> str:
    """One line without control characters, runs of white space made one space."""
    # Half a surrogate pair, which JSON can spell, is no text for a tokenizer.
    whole = text.encode("utf-8", "replace").decode("utf-8")
    spaced = "".join(" " if character < " " or "\x7f" <= character < "\xa0" else character for character in whole)
    return " ".join(spaced.split())


def lines_of(text: str) -> str:
    """The captions in ``text``, one a line, each cleaned, empty ones left out."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return "\n".join(filter(None, map(cleaned, lines)))


def parse(data: bytes, *, is_json: bool) -> str:
    """The captions in a file's bytes, one a line.

    Args:
        data: UTF-8, with or without a byte order mark; bytes that are not UTF-8 are replaced.
        is_json: An object whose ``"caption"`` is a text or a list of texts, not plain text.

    Raises:
        DataError: There is none, it is too long, or the JSON is not what it should be.
    """
    if len(data) > LARGEST:
        raise DataError(f"the caption has {len(data):,} bytes; at most {LARGEST:,} are accepted")
    text = data.decode("utf-8-sig", "replace")
    captions = _in_json(text) if is_json else lines_of(text)
    if not captions:
        raise DataError("the caption is empty")
    return captions


def parse_box(data: bytes) -> Box | None:
    """The ``"box"`` of a JSON caption, if it has one: the part of the picture that the caption speaks of.

    Raises:
        DataError: It is not four numbers, (left, top, right, bottom) in shares of the picture, with room between them.
    """
    if b'"box"' not in data:
        return None  # most have none, and need not be read twice
    document: Any = json.loads(data.decode("utf-8-sig", "replace"))
    box = document.get("box")
    if box is None:
        return None
    numbers = isinstance(box, list) and len(box) == 4 and all(type(side) in (int, float) for side in box)
    if not numbers or not (0 <= box[0] < box[2] <= 1 and 0 <= box[1] < box[3] <= 1):
        raise DataError(f'"box" is {json.dumps(box)[:60]}; accepted: [left, top, right, bottom], in shares of 0 to 1')
    return (float(box[0]), float(box[1]), float(box[2]), float(box[3]))


def pick(captions: str, generator: np.random.Generator) -> str:
    """One of the lines."""
    lines = captions.split("\n")
    return lines[0] if len(lines) == 1 else lines[int(generator.integers(len(lines)))]


def _in_json(text: str) -> str:
    try:
        document: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError("the caption's JSON cannot be read") from error
    found = document.get("caption") if isinstance(document, dict) else None
    captions: list[Any] = found if isinstance(found, list) else [found]
    if not all(isinstance(caption, str) for caption in captions):
        raise DataError('the JSON has no text as "caption"')
    return "\n".join(filter(None, map(cleaned, captions)))
