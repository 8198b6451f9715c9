"""The procedural world: reproducible, true to its masks and captions, and not to be solved by colour alone."""

import re
import subprocess
import sys

import numpy as np
import pytest

from clippy_core.errors import ConfigError
from clippy_core.shapes import CLASSES, STUFF, THINGS, scene
from clippy_core.shapes.things import THINGS as KINDS

PLURALS = {kind.plural: kind.name for kind in KINDS}
NAMED = {**PLURALS, **{name: name for name in CLASSES}}


def words(caption):
    """Classes that a caption names."""
    return {NAMED[word] for word in re.findall(r"[a-z]+", caption) if word in NAMED}


@pytest.fixture(scope="module")
def scenes():
    return [scene(number) for number in range(400)]


def test_a_scene_is_decided_by_seed_number_and_size_alone():
    np.random.seed(0)
    first = scene(7, seed=3)
    np.random.seed(1)
    again = scene(7, seed=3)
    assert first.caption == again.caption
    for name in ("pixels_HW3", "mask_HW", "instances_HW"):
        assert np.array_equal(getattr(first, name), getattr(again, name))


def test_other_numbers_and_other_seeds_are_other_scenes():
    seen = {scene(number, seed=seed).pixels_HW3.tobytes() for number in range(20) for seed in range(3)}
    assert len(seen) == 60


def test_a_scene_is_the_same_in_another_process():
    code = "import zlib, clippy_core.shapes as s; print(zlib.crc32(s.scene(11, seed=2).pixels_HW3.tobytes()))"
    found = {subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout for _ in range(2)}
    assert len(found) == 1


@pytest.mark.parametrize("size", [32, 33, 64, 100, 256, 512])
def test_arrays_are_what_they_are_said_to_be(size):
    for number in range(5):
        found = scene(number, size=size)
        assert (found.pixels_HW3.shape, found.pixels_HW3.dtype) == ((size, size, 3), np.uint8)
        assert (found.mask_HW.shape, found.mask_HW.dtype) == ((size, size), np.uint8)
        assert (found.instances_HW.shape, found.instances_HW.dtype) == ((size, size), np.uint8)
        assert found.pixels_HW3.flags.c_contiguous
        assert found.mask_HW.max() < len(CLASSES)


@pytest.mark.parametrize("number", range(8))
def test_a_scene_is_the_same_at_every_size(number):
    small, large = scene(number, size=64), scene(number, size=256)
    assert small.caption == large.caption
    assert (small.mask_HW == large.mask_HW[2::4, 2::4]).mean() > 0.96
    blurred = large.pixels_HW3.reshape(64, 4, 64, 4, 3).mean((1, 3))
    assert np.corrcoef(blurred.ravel(), small.pixels_HW3.ravel())[0, 1] > 0.85


def test_things_come_first_and_every_name_is_its_own():
    assert CLASSES == THINGS + STUFF
    assert len(set(CLASSES)) == len(CLASSES) == 26


def test_an_instance_is_one_thing_and_the_rest_is_stuff(scenes):
    for found in scenes:
        stuff = found.mask_HW >= len(THINGS)
        assert np.array_equal(stuff, found.instances_HW == 0)
        for instance in range(1, found.instances_HW.max() + 1):
            assert len(np.unique(found.mask_HW[found.instances_HW == instance])) <= 1


def test_how_much_is_in_a_picture(scenes):
    counts = np.array([found.instances_HW.max() for found in scenes])
    assert set(counts) == {1, 2, 3, 4}
    assert 0.25 < (counts == 1).mean() < 0.45
    kinds_of_stuff = [len({value for value in np.unique(found.mask_HW) if value >= len(THINGS)}) for found in scenes]
    assert set(kinds_of_stuff) == {1, 2}
    share = np.mean([(found.mask_HW < len(THINGS)).mean() for found in scenes])
    assert 0.1 < share < 0.35


def test_every_class_is_there_about_equally_often(scenes):
    present = np.zeros(len(CLASSES))
    for found in scenes:
        present[np.unique(found.mask_HW)] += 1
    things, stuff = present[: len(THINGS)], present[len(THINGS) :]
    assert things.min() > things.mean() / 2
    assert stuff.min() > stuff.mean() / 2


def test_things_can_be_seen(scenes):
    visible = [np.bincount(found.instances_HW.ravel(), minlength=2)[1:] for found in scenes]
    assert np.mean(np.concatenate(visible) >= 40) > 0.97


def test_a_caption_names_only_what_is_there_and_sometimes_leaves_something_out(scenes):
    left_out = {"thing": 0, "stuff": 0}
    for found in scenes:
        there = {CLASSES[value] for value in np.unique(found.mask_HW)}
        named = words(found.caption)
        assert named & set(THINGS)
        assert named <= there, found.caption
        left_out["thing"] += bool((there - named) & set(THINGS))
        left_out["stuff"] += bool((there - named) & set(STUFF))
    assert 0.005 < left_out["thing"] / len(scenes) < 0.1
    assert 0.4 < left_out["stuff"] / len(scenes) < 0.8


def test_counts_in_captions_are_right(scenes):
    checked = 0
    for found in scenes:
        match = re.search(r"\b(two|three|four) ([a-z]+)", found.caption)
        if match:
            kind = THINGS.index(PLURALS[match[2]])
            of_kind = {value for value in np.unique(found.instances_HW[found.mask_HW == kind]) if value}
            assert len(of_kind) <= {"two": 2, "three": 3, "four": 4}[match[1]]
            checked += 1
    assert checked > 10


def test_relations_in_captions_are_right(scenes):
    checked, one = 0, "|".join(THINGS)
    for found in scenes:
        match = re.search(rf"({one}) (left of|right of|above|below) an? (?:[a-z]+ )?({one})", found.caption)
        if not match or found.instances_HW.max() != 2:
            continue
        centres = [np.argwhere(found.mask_HW == THINGS.index(NAMED[match[group]])).mean(0) for group in (1, 3)]
        (row, column), (other_row, other_column) = centres
        # What is visible of a thing at the border has its middle a little inside of the thing's own.
        assert {
            "left of": column < other_column + 4,
            "right of": column > other_column - 4,
            "above": row < other_row + 4,
            "below": row > other_row - 4,
        }[match[2]], found.caption
        checked += 1
    assert checked > 10


def test_captions_vary(scenes):
    assert len({found.caption for found in scenes}) > 0.8 * len(scenes)
    assert all(found.caption == " ".join(found.caption.split()) and found.caption.isascii() for found in scenes)


def test_colour_alone_does_not_tell_what_is_there():
    """A classifier that sees the mean colour of every true region names less than half of them."""
    from sklearn.neighbors import KNeighborsClassifier

    colours, kinds = [], []
    for number in range(1200):
        found = scene(number, size=32)
        for value in np.unique(found.mask_HW):
            colours.append(found.pixels_HW3[found.mask_HW == value].mean(0))
            kinds.append(value)
    half = len(kinds) // 2
    guess = KNeighborsClassifier(15).fit(colours[:half], kinds[:half]).predict(colours[half:])
    kinds = np.array(kinds[half:])
    assert (guess == kinds).mean() < 0.45
    things = kinds < len(THINGS)
    assert (guess == kinds)[things].mean() < 0.35


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"number": -1}, "both must be 0 or more"),
        ({"number": 0, "seed": -1}, "both must be 0 or more"),
        ({"number": 0, "size": 31}, "32 to 512"),
        ({"number": 0, "size": 513}, "32 to 512"),
    ],
)
def test_what_is_no_scene_is_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        scene(**arguments)
