"""Outputs read back by other libraries are what was segmented, and never lie outside their folder."""

import json
from dataclasses import fields
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from clippy_core.errors import UsageError
from clippy_core.segmentation.palette import UNDECIDED_COLOUR
from clippy_core.segmentation.result import Segmentation
from clippy_core.segmentation.writers import ENDINGS, RUN_FILES, WRITERS, with_suffix
from clippy_core.segmentation.writers.stream import picture_bytes

CONTRACT = ["image", "width", "height", "model", "labels", "seconds", "version"]
EVIL = [
    "../../evil",
    "/etc/x",
    "..",
    ".",
    "a/b\\c",
    "con\u202egnp.exe",
    "~root",
    "$HOME",
    "-rf *",
    "C:\\x",
    "🐕",
    "犬" * 60,
]


def write(result, name, folder, stem="photo"):
    """The only file that a writer leaves."""
    (path,) = WRITERS.load(name)(result, folder / stem)
    assert path.parent == folder
    return path


def with_scores(result):
    """The result with every map of scores that was asked for, all zero."""
    object.__setattr__(result, "score_map", np.zeros(result.label_map.shape, np.float32))
    object.__setattr__(result, "score_grid", np.zeros((2, 3, len(result.labels)), np.float32))
    return result


# --- label map ---------------------------------------------------------------------------------------------------


def test_the_label_map_is_read_back_by_pillow_and_opencv(segmentation, tmp_path):
    label_map = np.random.default_rng(0).choice([0, 1, 2, 3, 255], (37, 53)).astype(np.uint8)
    result = segmentation(label_map, ["a", "b", "c", "d"])
    path = write(result, "labelmap", tmp_path)
    assert path.name == "photo.labels.png"
    with Image.open(path) as image:
        assert (image.mode, image.size, image.format) == ("P", (53, 37), "PNG")
        np.testing.assert_array_equal(np.asarray(image), label_map)
        colours = np.asarray(image.convert("RGB"))
    for index in range(4):
        assert (colours[label_map == index] == result.colours[index]).all()
    assert (colours[label_map == 255] == UNDECIDED_COLOUR).all()
    as_colours = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    np.testing.assert_array_equal(as_colours, colours)


@pytest.mark.parametrize("count", [1, 2, 3, 16, 17, 254, 255])
def test_up_to_255_labels_are_8_bits_with_a_palette(segmentation, tmp_path, count):
    label_map = np.arange(count, dtype=np.uint8)[None].repeat(3, axis=0)
    result = segmentation(label_map, [f"label {i}" for i in range(count)])
    path = write(result, "labelmap", tmp_path)
    header = path.read_bytes()[16:33]
    assert (header[8], header[9]) == (8, 3)  # bit depth, colour type
    with Image.open(path) as image:
        np.testing.assert_array_equal(np.asarray(image), label_map)
        palette = np.array(image.getpalette()).reshape(-1, 3)
        np.testing.assert_array_equal(palette[:count], result.colours)
        np.testing.assert_array_equal(palette[255], UNDECIDED_COLOUR)


@pytest.mark.parametrize("count", [256, 257, 65_535])
def test_more_labels_are_16_bit_grey(segmentation, tmp_path, count):
    label_map = np.array([[0, 255, 256 % count], [count - 1, 65_535, 1]], np.uint16)
    path = write(segmentation(label_map, [str(i) for i in range(count)]), "labelmap", tmp_path)
    header = path.read_bytes()[16:33]
    assert (header[8], header[9]) == (16, 0)
    with Image.open(path) as image:
        assert image.mode == "I;16"
        np.testing.assert_array_equal(np.asarray(image), label_map)
    np.testing.assert_array_equal(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), label_map)


# --- JSON --------------------------------------------------------------------------------------------------------


def test_the_json_has_the_fields_of_the_contract(segmentation, tmp_path):
    result = segmentation([[0, 1], [1, 255]], ["dog", "żółw 🐢", "none here"], seconds={"encode": 0.5})
    path = write(result, "json", tmp_path)
    assert path.name == "photo.json"

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    document = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    assert [field for field in document if field != "notes"] == CONTRACT
    for index, label in enumerate(document["labels"]):
        assert list(label) == ["index", "name", "pixels", "fraction", "score", "bbox"]
        assert label["index"] == index
        assert 0 <= label["fraction"] <= 1
        assert -1 <= label["score"] <= 1
        assert all(isinstance(number, int) for number in [label["pixels"], *label["bbox"]])
    assert [label["pixels"] for label in document["labels"]] == [1, 2, 0]
    assert document["labels"][2]["bbox"] == [0, 0, 0, 0]
    assert document["labels"][1]["name"] == "żółw 🐢"
    assert document["seconds"] == {"encode": 0.5}


def test_what_was_decided_for_the_user_is_noted(segmentation, tmp_path):
    result = segmentation([[0]])
    object.__setattr__(result.picture, "notes", ("animation: the first of 3 frames is used",))
    document = json.loads(write(result, "json", tmp_path).read_text(encoding="utf-8"))
    assert document["notes"] == ["animation: the first of 3 frames is used"]


# --- masks -------------------------------------------------------------------------------------------------------


def test_masks_are_black_and_white_one_a_label(segmentation, tmp_path):
    label_map = np.array([[0, 0, 2], [2, 255, 2]], np.uint8)
    result = segmentation(label_map, ["dog", "empty", "traffic light"])
    files = WRITERS.load("masks")(result, tmp_path / "photo")
    assert [file.name for file in files] == ["photo.mask.000-dog.png", "photo.mask.002-traffic-light.png"]
    for file, index in zip(files, (0, 2), strict=True):
        with Image.open(file) as image:
            assert image.mode == "L"
            np.testing.assert_array_equal(np.asarray(image), (label_map == index) * 255)


@pytest.mark.parametrize("name", list(WRITERS.names()))
def test_label_names_never_lead_out_of_the_folder(segmentation, tmp_path, name):
    folder = tmp_path / "deep" / "er" / "out"
    label_map = np.arange(len(EVIL), dtype=np.uint8)[None].repeat(2, axis=0)
    files = with_scores(segmentation(label_map, EVIL)).save(folder / "photo", [name])
    assert files
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == set(files)
    for file in files:
        assert file.parent in (folder, folder / ".clippy" / name)
        assert file.name.startswith("photo.")
        assert len(file.name.encode()) <= 255
        assert file.name.isprintable()
        assert not set(file.name) & set("/\\:*?\"<>|~$ '")


def test_labels_with_the_same_letters_have_masks_of_their_own(segmentation, tmp_path):
    result = segmentation([[0, 1, 2]], ["a b", "a/b", "a-b"])
    assert len({file.name for file in WRITERS.load("masks")(result, tmp_path / "photo")}) == 3


# --- scores, overlay ---------------------------------------------------------------------------------------------


def test_scores_decode_to_the_cosines(segmentation, tmp_path):
    cosines = np.linspace(-1, 1, 60, dtype=np.float32).reshape(6, 10)
    result = segmentation(np.zeros((6, 10), np.uint8), ["dog"], score_map=cosines)
    with Image.open(write(result, "scores", tmp_path)) as image:
        assert image.mode == "I;16"
        decoded = np.asarray(image).astype(np.float64) / 65535 * 2 - 1
    assert np.abs(decoded - cosines).max() <= 1 / 65535 + 1e-7


def test_scores_beyond_the_range_by_rounding_are_clipped(segmentation, tmp_path):
    cosines = np.array([[1.0000001, -1.0000001]], np.float32)
    result = segmentation([[0, 0]], ["dog"], score_map=cosines)
    with Image.open(write(result, "scores", tmp_path)) as image:
        assert np.asarray(image).tolist() == [[65535, 0]]


@pytest.mark.parametrize("name", ["scores", "scoremaps"])
def test_scores_that_were_not_asked_for_are_a_usage_error(segmentation, tmp_path, name):
    with pytest.raises(UsageError, match=f"^the {name} output needs a segmentation made with score_map=True$"):
        segmentation([[0]]).save(tmp_path / "photo", [name])
    assert list(tmp_path.iterdir()) == []


def test_score_maps_are_read_by_numpy(segmentation, tmp_path):
    grid_hwK = np.random.default_rng(0).uniform(-1, 1, (3, 4, 2)).astype(np.float32)
    result = segmentation(np.zeros((30, 40), np.uint8), ["dog", "żółw"])
    object.__setattr__(result, "score_grid", grid_hwK)
    path = write(result, "scoremaps", tmp_path)
    assert path.name == "photo.scores.npz"
    with np.load(path, allow_pickle=False) as arrays:
        assert arrays["labels"].tolist() == ["dog", "żółw"]
        assert arrays["size"].tolist() == [30, 40]
        assert arrays["scores"].dtype == np.float32
        for index in range(2):
            np.testing.assert_array_equal(arrays["scores"][index], grid_hwK[..., index])


def test_a_background_by_rule_has_no_score_map(segmentation, tmp_path):
    result = segmentation([[0, 1]], ["background", "dog"], has_background=True)
    object.__setattr__(result, "score_grid", np.ones((1, 1, 1), np.float32))
    with np.load(write(result, "scoremaps", tmp_path)) as arrays:
        assert arrays["labels"].tolist() == ["dog"]
        assert arrays["scores"].shape == (1, 1, 1)


@pytest.mark.skipif(
    "score_grid" not in {field.name for field in fields(Segmentation)}, reason="segmentations keep no score grid yet"
)
def test_score_maps_are_the_cosines_of_location_and_label(given_logits, tmp_path):
    """Of two words of one label the better one counts."""
    logits_hwK = np.random.default_rng(0).uniform(-1, 1, (2, 3, 3)).astype(np.float32)
    segmenter = given_logits(logits_hwK)
    picture = np.zeros((40, 60, 3), np.uint8)
    result = segmenter.segment(picture, ["a|b", "c"], score_map=True)
    with np.load(write(result, "scoremaps", tmp_path)) as arrays:
        np.testing.assert_allclose(arrays["scores"][0], logits_hwK[..., :2].max(axis=2), atol=1e-6)
        np.testing.assert_allclose(arrays["scores"][1], logits_hwK[..., 2], atol=1e-6)


# --- to a pipe ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["overlay", "labelmap", "scores"])
def test_the_bytes_for_a_pipe_are_those_of_the_file(segmentation, tmp_path, kind):
    result = with_scores(segmentation(np.arange(12, dtype=np.uint8).reshape(3, 4)))
    assert picture_bytes(result, kind) == write(result, kind, tmp_path).read_bytes()


@pytest.mark.parametrize("kind", ["masks", "json", "coco", "nonsense", ""])
def test_what_is_not_one_picture_cannot_go_to_a_pipe(segmentation, kind):
    with pytest.raises(UsageError) as raised:
        picture_bytes(segmentation([[0]]), kind)
    assert str(raised.value) == f"--save is {kind!r} with --out -; accepted, as one picture: overlay, labelmap, scores"


def test_the_overlay_file_is_the_overlay(segmentation, tmp_path):
    result = segmentation(np.random.default_rng(0).integers(0, 3, (40, 50)).astype(np.uint8))
    with Image.open(write(result, "overlay", tmp_path)) as image:
        assert image.mode == "RGB"
        np.testing.assert_array_equal(np.asarray(image), np.asarray(result.overlay()))


def test_every_writer_leaves_no_temporary_file(segmentation, tmp_path):
    files = with_scores(segmentation([[0, 1]])).save(tmp_path / "photo", WRITERS.names())
    assert len(files) == len(set(files)) >= len(WRITERS.names())
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == set(files)


@pytest.mark.parametrize("name", sorted(ENDINGS))
def test_the_endings_are_those_that_the_writers_append(segmentation, tmp_path, name):
    assert write(with_scores(segmentation([[0, 1]])), name, tmp_path).name == f"photo{ENDINGS[name]}"


def test_writers_without_an_ending_write_several_files_a_picture_or_one_a_run():
    assert set(WRITERS.names()) - set(ENDINGS) == {"masks", *RUN_FILES}


@pytest.mark.parametrize("name", list(WRITERS.names()))
def test_the_same_picture_gives_the_same_bytes(segmentation, tmp_path, name):
    label_map = np.random.default_rng(0).integers(0, 5, (40, 60)).astype(np.uint8)
    first, again = (
        with_scores(segmentation(label_map, [f"label {i}" for i in range(6)])).save(tmp_path / time / "photo", [name])
        for time in ("first", "again")
    )
    assert [file.relative_to(tmp_path / "first") for file in first] == [
        file.relative_to(tmp_path / "again") for file in again
    ]
    for one, other in zip(first, again, strict=True):
        assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize(
    ("stem", "name"),
    [("photo", "photo.json"), ("v1.0", "v1.0.json"), ("a/img.jpg", "a/img.jpg.json"), (".x", ".x.json")],
)
def test_a_suffix_is_added_never_exchanged(stem, name):
    assert with_suffix(Path(stem), ".json") == Path(name)
