"""The 1000 classes of ImageNet as OpenAI cleaned their names. Imports no torch.

``imagenet.txt`` has a line a class, in the order of the usual class index: WordNet id, number in the development kit
of ILSVRC2012 (which counts from 1 in another order), name. Two names stand for two classes each, *missile* and
*sunglasses*: so it is in the source.

Source: names from ``notebooks/Prompt_Engineering_for_ImageNet.ipynb`` of the repository openai/CLIP, MIT licence; ids
and their order from WordNet and the ILSVRC2012 development kit.
"""

from functools import cache
from pathlib import Path
from typing import NamedTuple

COUNT = 1000


class ImageNetClass(NamedTuple):
    """One class: its WordNet id, its number in the development kit (1 to 1000), and its name in prompts."""

    wnid: str
    number: int
    name: str


@cache
def classes() -> tuple[ImageNetClass, ...]:
    """All classes; the place in the tuple is the class index, 0 to 999."""
    lines = Path(__file__).with_suffix(".txt").read_text(encoding="utf-8").splitlines()
    found = []
    for line in lines:
        wnid, number, name = line.split(" ", 2)
        found.append(ImageNetClass(wnid, int(number), name))
    return tuple(found)


@cache
def index_of_wnid() -> dict[str, int]:
    """The class index by WordNet id."""
    return {one.wnid: index for index, one in enumerate(classes())}


@cache
def index_of_number() -> dict[int, int]:
    """The class index by number in the development kit."""
    return {one.number: index for index, one in enumerate(classes())}
