"""What a segmentation says about itself: counts, boxes, masks and COCO, against plain counting and pycocotools."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as rle
from pycocotools.coco import COCO

from clippy_core.errors import UsageError
from clippy_core.images import Picture
from clippy_core.segmentation.result import Segmentation
from clippy_core.version import __version__

# pycocotools 2.0.11 decodes into an array type that does not know numpy 2's keyword yet.
DECODING = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")
SHAPES = st.tuples(st.integers(1, 12), st.integers(1, 12))


def made(label_map, count, **fields):
    pixels = np.zeros((*label_map.shape, 3), np.uint8)
    labels = tuple(f"label {index}" for index in range(count))
    scores = np.linspace(-1, 1, count, dtype=np.float32)
    return Segmentation(Picture(pixels, "PNG"), label_map, labels, scores, **fields)


@st.composite
def results(draw):
    """Any label map of few labels, of either dtype, with pixels that are not decided."""
    dtype = draw(st.sampled_from([np.uint8, np.uint16]))
    count = draw(st.integers(1, 6))
    values = st.one_of(st.integers(0, count - 1), st.just(int(np.iinfo(dtype).max)))
    label_map = draw(arrays(dtype, draw(SHAPES), elements=values))
    return made(label_map, count, has_background=draw(st.booleans()))


def counted(label_map, index):
    """Pixels and box of a label, pixel by pixel."""
    where = [(y, x) for y, row in enumerate(label_map.tolist()) for x, value in enumerate(row) if value == index]
    if not where:
        return 0, (0, 0, 0, 0)
    ys, xs = zip(*where, strict=True)
    return len(where), (min(xs), min(ys), max(xs) - min(xs) + 1, max(ys) - min(ys) + 1)


@settings(max_examples=50)
@given(results())
def test_the_summary_equals_counting_pixel_by_pixel(result):
    summary = result.summary()
    assert [label.index for label in summary] == list(range(len(result.labels)))
    assert [label.name for label in summary] == list(result.labels)
    assert result.pixel_counts.tolist() == [label.pixels for label in summary]
    for label in summary:
        pixels, box = counted(result.label_map, label.index)
        assert (label.pixels, label.bbox) == (pixels, box)
        assert label.fraction == pytest.approx(pixels / result.label_map.size)
        assert label.score == result.scores[label.index]
        assert {type(number) for number in label.bbox} == {int}


@settings(max_examples=50)
@given(results())
def test_masks_are_the_label_map_taken_apart(result):
    masks = result.masks()
    assert list(masks) == [label.name for label in result.summary() if label.pixels]
    for name, mask in masks.items():
        assert (mask.dtype, mask.shape) == (bool, result.label_map.shape)
        np.testing.assert_array_equal(mask, result.label_map == result.labels.index(name))
    decided = np.logical_or.reduce([*masks.values(), np.zeros(result.label_map.shape, bool)])
    np.testing.assert_array_equal(decided, result.label_map != result.undecided)


@DECODING
@settings(max_examples=50)
@given(results())
def test_coco_decodes_to_the_masks_and_agrees_on_areas_and_boxes(result):
    document = json.loads(json.dumps(result.to_coco(image_id=7)))
    found = {annotation["category_id"] - 1: annotation for annotation in document["annotations"]}
    wanted = [label for label in result.summary() if label.pixels and not (result.has_background and not label.index)]
    assert list(found) == [label.index for label in wanted]
    for label in wanted:
        annotation = found[label.index]
        np.testing.assert_array_equal(
            rle.decode(annotation["segmentation"]).astype(bool), result.label_map == label.index
        )
        assert annotation["area"] == rle.area(annotation["segmentation"]) == label.pixels
        assert annotation["bbox"] == rle.toBbox(annotation["segmentation"]).tolist() == list(label.bbox)
        assert (annotation["image_id"], annotation["iscrowd"]) == (7, 0)
    assert [annotation["id"] for annotation in document["annotations"]] == list(range(1, len(wanted) + 1))


@DECODING
def test_coco_is_read_by_pycocotools_as_a_data_set(segmentation, capsys):
    result = segmentation([[0, 0, 1], [2, 2, 1]], ["background", "dog", "grass"], has_background=True)
    coco = COCO()
    coco.dataset = result.to_coco(image_id=3)
    coco.createIndex()
    capsys.readouterr()
    assert coco.loadImgs(3) == [{"id": 3, "file_name": "photo.png", "width": 3, "height": 2}]
    assert {category["name"] for category in coco.loadCats(coco.getCatIds())} == {"dog", "grass"}
    (dog,) = coco.loadAnns(coco.getAnnIds(imgIds=[3], catIds=coco.getCatIds(catNms=["dog"])))
    np.testing.assert_array_equal(coco.annToMask(dog), [[0, 0, 1], [0, 0, 1]])


def test_labels_without_a_pixel_are_listed_with_nothing(segmentation):
    label = segmentation([[0, 0]], ["dog", "grass"]).summary()[1]
    assert (label.pixels, label.fraction, label.bbox) == (0, 0, (0, 0, 0, 0))


def test_a_label_map_without_a_decided_pixel_has_nothing_to_show(segmentation):
    result = segmentation(np.full((4, 5), 255, np.uint8), ["dog"])
    assert result.masks() == {}
    assert result.to_coco()["annotations"] == []
    assert result.overlay().size == (5, 4)


@pytest.mark.parametrize(("dtype", "undecided"), [(np.uint8, 255), (np.uint16, 65535)])
def test_the_largest_value_means_not_decided(dtype, undecided):
    result = made(np.array([[0, undecided]], dtype), 1)
    assert result.undecided == undecided
    assert result.summary()[0].pixels == 1


@pytest.mark.parametrize("count", [254, 255, 256, 1000, 65_535])
def test_any_number_of_labels_is_counted(count):
    dtype = np.uint8 if count <= 255 else np.uint16
    label_map = np.array([[0, count - 1], [count - 1, np.iinfo(dtype).max]], dtype)
    result = made(label_map, count)
    assert result.pixel_counts[[0, count - 1]].tolist() == [1, 2]
    assert result.pixel_counts.sum() == 3
    assert len(result.summary()) == len(result.colours) == count
    assert result.summary()[-1].bbox == (0, 0, 2, 2)


@settings(max_examples=25)
@given(st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_counting_does_not_depend_on_the_memory_layout(step, seed):
    label_map = np.random.default_rng(seed).integers(0, 3, (9, 11)).astype(np.uint8)
    view, copy = label_map[::step, ::-step], np.ascontiguousarray(label_map[::step, ::-step])
    assert made(view, 3).summary() == made(copy, 3).summary() == made(np.asfortranarray(copy), 3).summary()
    np.testing.assert_array_equal(
        np.asarray(made(view, 3).overlay()), np.asarray(made(np.asfortranarray(copy), 3).overlay())
    )


def test_a_large_label_map_is_counted_right():
    label_map = np.random.default_rng(0).integers(0, 5, (1500, 1000)).astype(np.uint8)
    assert made(label_map, 5).pixel_counts.tolist() == np.bincount(label_map.ravel()).tolist()


def test_colours_follow_the_palette_and_the_background(segmentation):
    plain = segmentation([[0, 1]], ["dog", "grass"])
    shifted = segmentation([[0, 1]], ["background", "dog"], has_background=True)
    assert plain.colours[0].tolist() == shifted.colours[1].tolist() != shifted.colours[0].tolist()


def test_the_document_is_that_of_the_contract(segmentation):
    result = segmentation(
        [[0, 0, 1], [0, 255, 1]], ["dog", "grass", "sky"], scores=[0.1234567, -0.5, 0.25], seconds={"label": 0.123456}
    )
    document = result.to_dict()
    assert document.pop("notes") == []
    assert document == {
        "image": "photo.png",
        "width": 3,
        "height": 2,
        "model": "tiny",
        "labels": [
            {"index": 0, "name": "dog", "pixels": 3, "fraction": 0.5, "score": 0.12346, "bbox": (0, 0, 2, 2)},
            {"index": 1, "name": "grass", "pixels": 2, "fraction": 0.333333, "score": -0.5, "bbox": (2, 0, 1, 2)},
            {"index": 2, "name": "sky", "pixels": 0, "fraction": 0.0, "score": 0.25, "bbox": (0, 0, 0, 0)},
        ],
        "seconds": {"label": 0.1235},
        "version": __version__,
    }


def test_saving_writes_the_default_outputs(segmentation, tmp_path):
    files = segmentation([[0, 1]]).save(tmp_path / "new" / "photo.v1")
    assert [file.name for file in files] == ["photo.v1.overlay.png", "photo.v1.labels.png", "photo.v1.json"]
    assert sorted(files) == sorted((tmp_path / "new").iterdir())


def test_an_unknown_output_is_refused_before_anything_is_written(segmentation, tmp_path):
    with pytest.raises(UsageError, match="labelmap"):
        segmentation([[0]]).save(tmp_path / "photo", ["json", "labelmaps"])
    assert list(tmp_path.iterdir()) == []
