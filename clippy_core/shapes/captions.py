"""What somebody might write under a scene: in varied words, sometimes with a count or a relation, never complete."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from clippy_core.shapes.things import THINGS

Rng = np.random.Generator

LEAVE_OUT_GROUND, LEAVE_OUT_SECOND_GROUND, LEAVE_OUT_THING = 0.5, 0.5, 0.05
NUMBERS = ("no", "one", "two", "three", "four")
PLACES = {
    "grass": ("on grass", "on the grass", "in the grass"),
    "sand": ("on sand", "on the sand", "in the sand"),
    "water": ("in the water", "on water", "on the water"),
    "sky": ("in the sky", "under the sky", "against the sky"),
    "brick": ("on brick", "in front of brick", "on a brick wall"),
    "snow": ("in the snow", "on snow", "on the snow"),
    "wood": ("on wood", "on a wood floor", "in front of wood"),
    "stone": ("on stone", "on the stone", "on a stone floor"),
    "tiles": ("on tiles", "on the tiles", "in front of tiles"),
    "cloth": ("on cloth", "on a cloth", "on the cloth"),
}
WITH_PLACE = (
    "{things} {place}",
    "{things} {place}",
    "a photo of {things} {place}",
    "a picture of {things} {place}",
    "there is {things} {place}",
    "{things}, seen {place}",
    "{ground} with {things}",
    "{ground} and {things}",
    "a photo of {ground} and {things}",
)
WITHOUT_PLACE = (
    "{things}",
    "a photo of {things}",
    "a picture of {things}",
    "here is {things}",
    "a drawing of {things}",
)
TWO_GROUNDS = ("{place} with {second}", "{place} next to {second}", "{place}, {second} behind", "{place} near {second}")


class Mention(NamedTuple):
    """A thing that a caption can name.

    Attributes:
        kind: Index into :data:`~clippy_core.shapes.things.THINGS`.
        colour: Name of its main colour.
        pattern: Name of its pattern.
        x: Where it is, as a fraction of the width.
        y: Where it is, as a fraction of the height.
    """

    kind: int
    colour: str
    pattern: str
    x: float
    y: float


def write(rng: Rng, seen: Sequence[Mention], grounds: Sequence[str]) -> str:
    """One line about things on one or two kinds of stuff; ``grounds`` in any order."""
    things = _things(rng, list(seen))
    if rng.random() < LEAVE_OUT_GROUND:
        return _pick(rng, WITHOUT_PLACE).format(things=things)
    names = [grounds[index] for index in map(int, rng.permutation(len(grounds)))]
    ground = names[0]
    place = _pick(rng, PLACES[ground])
    if len(names) == 2 and rng.random() >= LEAVE_OUT_SECOND_GROUND:
        place = _pick(rng, TWO_GROUNDS).format(place=place, second=names[1])
        ground = f"{names[0]} and {names[1]}"
    return _pick(rng, WITH_PLACE).format(things=things, place=place, ground=ground)


def _things(rng: Rng, seen: list[Mention]) -> str:
    kinds: dict[int, list[Mention]] = {}
    for mention in seen:
        kinds.setdefault(mention.kind, []).append(mention)
    groups = [list(kinds.values())[index] for index in rng.permutation(len(kinds))]
    if len(groups) > 1 and rng.random() < LEAVE_OUT_THING:
        groups.pop()
    phrases = [_phrase(rng, group) for group in groups]
    if len(groups) == 2 and len(groups[0]) == len(groups[1]) == 1 and rng.random() < 0.35:
        return f"{phrases[0]} {_relation(groups[0][0], groups[1][0])} {phrases[1]}"
    return phrases[0] if len(phrases) == 1 else f"{', '.join(phrases[:-1])} and {phrases[-1]}"


def _phrase(rng: Rng, group: list[Mention]) -> str:
    """``a star``, ``a red star``, ``a striped fish``, ``two balls``."""
    thing = THINGS[group[0].kind]
    if len(group) > 1:
        return f"{NUMBERS[len(group)]} {thing.plural}" if rng.random() < 0.7 else f"some {thing.plural}"
    chance, words = rng.random(), thing.name
    if chance < 0.15:
        words = f"{group[0].colour} {words}"
    elif chance < 0.25 and group[0].pattern in ("striped", "spotted", "checked"):
        words = f"{group[0].pattern} {words}"
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _relation(one: Mention, other: Mention) -> str:
    if abs(one.x - other.x) > abs(one.y - other.y):
        return "left of" if one.x < other.x else "right of"
    return "above" if one.y < other.y else "below"


def _pick(rng: Rng, choices: Sequence[str]) -> str:
    return choices[int(rng.integers(len(choices)))]
