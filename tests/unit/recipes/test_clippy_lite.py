"""The recipe of the bundled model: what it trains on is what it says, and never what it is measured on."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

RECIPE = Path(__file__).parents[3] / "recipes/clippy-lite"


@pytest.fixture(scope="module", autouse=True)
def _beside():
    """The recipe's files import each other by name, as scripts do."""
    patch = pytest.MonkeyPatch()
    patch.syspath_prepend(str(RECIPE))
    yield
    patch.undo()


def listed(name):
    return json.loads((RECIPE / name).read_text(encoding="utf-8"))["photographs"]


def test_no_photograph_is_both_trained_on_and_measured_on():
    trained, measured = listed("photographs.json"), listed("points.json")
    assert not {entry["sha256"] for entry in trained} & {entry["sha256"] for entry in measured}
    places = [
        {(entry["source"]["package"], entry["source"]["path"], entry["source"].get("member")) for entry in entries}
        for entries in (trained, measured)
    ]
    assert not places[0] & places[1]


@pytest.mark.parametrize("name", ["photographs.json", "points.json"])
def test_reserved_sources_are_not_used(name):
    reserved = ("scikit-learn", "scikit_learn", "opencv", "mate-backgrounds", "plasma-workspace-wallpapers")
    assert not [entry["id"] for entry in listed(name) if entry["source"]["package"].lower().startswith(reserved)]


def test_every_captioned_part_is_a_part_with_a_caption_and_a_licence():
    entries = listed("photographs.json")
    assert len({entry["id"] for entry in entries}) == len(entries)
    for entry in entries:
        assert entry["licence"]
        for left, top, right, bottom, caption in entry["regions"]:
            assert 0 <= left < right <= 1, entry["id"]
            assert 0 <= top < bottom <= 1, entry["id"]
            assert caption == caption.strip() != ""


@pytest.fixture
def composer(tmp_path):
    """Three things, the last held out, over two kinds of stuff."""
    import compose
    import cutouts

    things = []
    for number, (name, colour) in enumerate(
        (("red ball", (255, 0, 0)), ("green ball", (0, 255, 0)), ("cup", (0, 0, 255)))
    ):
        pixels = np.zeros((80, 80, 4), np.uint8)
        pixels[10:70, 10:70] = (*colour, 255)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        things.append(cutouts.Cutout(tmp_path / f"{number}.png", (name, "thing"), number == 2))
    materials = {}
    for word, grey in (("sky", 200), ("grass", 60)):
        path = tmp_path / f"{word}.png"
        Image.fromarray(np.full((64, 64, 3), grey, np.uint8)).save(path)
        materials[word] = [path]
    return lambda held_out=False, seed=0: compose.Composer(things, materials, held_out=held_out, seed=seed)


def test_a_picture_depends_on_seed_and_number_alone(composer):
    first, again = composer(), composer()
    for number in (0, 7):
        one, other = first.draw(number), again.draw(number)
        assert np.array_equal(one.pixels_HW3, other.pixels_HW3)
        assert one.caption == other.caption
    assert not np.array_equal(first.draw(1).pixels_HW3, composer(seed=1).draw(1).pixels_HW3)


def test_what_the_mask_says_is_there_and_named(composer):
    names = {64: "red ball", 65: "green ball", 66: "cup"}
    for held_out, things in ((False, {64, 65}), (True, {66})):
        drawn = composer(held_out)
        for number in range(20):
            picture = drawn.draw(number)
            seen = set(np.unique(picture.mask_HW).tolist())
            assert {value for value in seen if value >= 64} <= things
            assert {value for value in seen if value < 64} <= {0, 1}
            for value in things & seen:
                inside = picture.pixels_HW3[picture.mask_HW == value].astype(int)
                assert inside.mean(0).argmax() == value - 64
                if (picture.mask_HW == value).sum() > 2000:
                    assert names[value] in picture.caption or "thing" in picture.caption
            assert ((picture.instances_HW > 0) == (picture.mask_HW >= 64)).all()


def test_parts_of_composites_lie_where_their_boxes_say(composer, tmp_path):
    import shards

    count = shards.write_composites(tmp_path / "c.tar", composer(), 12)
    with tarfile.open(tmp_path / "c.tar") as archive:
        files = {member.name: archive.extractfile(member).read() for member in archive}
    parts = [name for name in files if name.endswith(".json")]
    assert count == 12 + len(parts)
    assert len(parts) >= 4
    for name in parts:
        said = json.loads(files[name])
        picture = np.asarray(Image.open(io.BytesIO(files[name.replace(".json", ".jpg")]))).astype(int)
        left, top, right, bottom = (round(side * 320) for side in said["box"])
        middle = np.median(picture[top:bottom, left:right].reshape(-1, 3), 0)
        if said["caption"][0] == "red ball":
            assert middle.argmax() == 0
        if said["caption"][0] == "green ball":
            assert middle.argmax() == 1


@pytest.mark.parametrize(
    ("won", "lost", "expected"), [(0, 0, 1.0), (5, 5, 1.0), (8, 0, 2 / 256), (9, 1, 2 * 11 / 1024)]
)
def test_the_sign_test_by_hand(won, lost, expected):
    import compare

    assert compare.sign_test(won, lost) == pytest.approx(expected)


def test_resampled_photographs_bracket_the_difference():
    import compare

    pairs = [(f"p{number}", False, number % 4 != 0) for number in range(40)]
    low, high = compare.interval(pairs)
    assert low < 0.75 < high
    assert low > 0.5
    assert high < 1
