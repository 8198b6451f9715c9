"""COCO's files: ids and values, objects that overlap, crowds, segments, and files that are not what they should be."""

import json

import numpy as np
import pytest
from PIL import Image
from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights

from clippy_core.errors import DataError
from clippy_core.evaluation.benchmarks import cityscapes, coco_object, coco_panoptic, coco_stuff
from clippy_core.evaluation.dense import coco
from clippy_core.evaluation.dense.dataset import Example

IDS = {name: number for number, name in enumerate(FasterRCNN_ResNet50_FPN_Weights.DEFAULT.meta["categories"])}
SIZE = (6, 10)


def box(left, top, width, height, category="person", **fields):
    right, bottom = left + width, top + height
    outline = [[left, top, right, top, right, bottom, left, bottom]]
    return {"segmentation": outline, "category_id": IDS[category], "area": width * height, "iscrowd": 0} | fields


def test_values_of_the_pixel_maps_mean_the_classes_that_torchvision_names(miniatures, tmp_path):
    classes = coco_stuff.read(miniatures.MAKERS["coco-stuff"](tmp_path, seed=0).data).classes
    stuff_V, objects_V = coco.stuff_table(), coco.object_table()
    unused = [number for name, number in IDS.items() if name == "N/A"]
    for name, number in IDS.items():
        if name not in ("__background__", "N/A"):
            assert classes[stuff_V[number - 1]] == name
            assert classes[objects_V[number - 1] - 1] == name
    # Stuff has the values 91 to 181 and the classes 80 to 170; 255 is unlabelled.
    assert stuff_V[91:182].tolist() == list(range(80, 171))
    assert stuff_V[255] == 255
    assert sorted(set(stuff_V.tolist()) - {254}) == [*range(171), 255]
    assert set(stuff_V[np.array(unused) - 1].tolist()) == {254}
    assert set(objects_V[91:].tolist()) == {0}


def test_what_lies_on_top_is_seen_and_crowds_lie_below():
    crowds = (box(0, 0, 10, 6, "cow", iscrowd=1), box(5, 1, 1, 1, "cow", iscrowd=1))
    items = (box(0, 0, 2, 2), box(0, 0, 8, 4, "dog"), *crowds, box(7, 3, 3, 3))
    numbers_HW = coco.paint_numbers(items, SIZE, "picture")
    expected_HW = np.full(SIZE, -1)
    expected_HW[:4, :8] = 2
    expected_HW[3:, 7:] = 3
    expected_HW[:2, :2] = 1
    assert numbers_HW.tolist() == expected_HW.tolist()
    assert coco.paint((), SIZE, lambda *_: 1, "picture").tolist() == np.zeros(SIZE).tolist()


def test_crowds_are_not_counted_among_the_objects():
    items = (box(0, 0, 1, 1, iscrowd=1), box(2, 0, 1, 1), box(4, 0, 1, 1, iscrowd=1), box(6, 0, 1, 1))
    assert coco.paint_numbers(items, SIZE, "picture")[0].tolist() == [-1, 0, 1, 0, -1, 0, 2, 0, 0, 0]


@pytest.mark.parametrize(
    "outline",
    [
        [],
        ["text"],
        [[1, 2, "x", 4, 5, 6]],
        5,
        None,
        {"size": [6, 10]},
        {"size": [5, 5], "counts": [5, 20]},
        [[{"a": 1}]],
        [5, 6],
    ],
)
def test_outlines_that_cannot_be_understood(outline):
    with pytest.raises(DataError, match="picture 17: the outline of object 0 cannot be understood"):
        coco.paint((box(0, 0, 1, 1, segmentation=outline),), SIZE, lambda *_: 1, "17")


@pytest.mark.parametrize(
    ("read", "benchmark", "index", "change", "message"),
    [
        (coco_object.read, "coco-object", "instances", lambda d: d.pop("images"), "no list 'images' in it"),
        (coco_object.read, "coco-object", "instances", lambda d: d["annotations"][0].pop("area"), "missing: 'area'"),
        (coco_object.read, "coco-object", "instances", lambda d: d["images"][0].pop("id"), "missing: 'id'"),
        (
            coco_object.read,
            "coco-object",
            "instances",
            lambda d: d["annotations"][0].update(category_id=92),
            "has category 92, none of the 80",
        ),
        (coco_panoptic.read, "coco-panoptic", "panoptic", lambda d: d.pop("annotations"), "no list 'annotations'"),
        (
            coco_panoptic.read,
            "coco-panoptic",
            "panoptic",
            lambda d: d["annotations"][0]["segments_info"][0].update(category_id=183),
            "missing: 183",
        ),
        (coco_panoptic.read, "coco-panoptic", "panoptic", lambda d: d["images"].clear(), "missing: 139"),
    ],
)
def test_annotation_files_that_are_not_what_they_should_be(
    miniatures, tmp_path, read, benchmark, index, change, message
):
    truth = miniatures.MAKERS[benchmark](tmp_path, seed=0)
    path = truth.data / "annotations" / f"{index}_val2017.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    with pytest.raises(DataError, match=message) as caught:
        read(truth.data)
    assert str(path) in str(caught.value)
    path.write_text(json.dumps(document)[:-9])
    with pytest.raises(DataError, match="not JSON, or only a part of it"):
        read(truth.data)


def test_segments_are_read_as_panopticapi_writes_them(tmp_path):
    """Red counts once, green 256 times, blue 65,536 times; the PNG is decoded here by hand."""
    Image.new("RGB", (4, 1)).save(tmp_path / "picture.png")
    colours_HW3 = np.array([[[7, 0, 0], [0, 7, 0], [1, 2, 3], [0, 0, 0]]], np.uint8)
    Image.fromarray(colours_HW3).save(tmp_path / "segments.png")
    segments = ((1 + 2 * 256 + 3 * 65536, 0, 1), (7, 132, 0), (7 * 256, 5, -1))
    example = Example("7", tmp_path / "picture.png", (tmp_path / "segments.png", segments))
    assert coco_panoptic._read_mask(example).tolist() == [[132, 5, 0, 255]]
    assert coco_panoptic._read_objects(example).tolist() == [[0, -1, 1, -1]]
    without = Example("7", tmp_path / "picture.png", (tmp_path / "segments.png", segments[:2]))
    with pytest.raises(DataError, match=r"segment 1792 is not among those listed for picture 7"):
        coco_panoptic._read_mask(without)


def test_pictures_without_objects_are_background(miniatures, tmp_path):
    """Of the 5,000 pictures of COCO's val split 48 have no object."""
    truth = miniatures.MAKERS["coco-object"](tmp_path, seed=0)
    path = truth.data / "annotations" / "instances_val2017.json"
    document = json.loads(path.read_text())
    document["annotations"] = [item for item in document["annotations"] if item["image_id"] != 285]
    path.write_text(json.dumps(document))
    dataset = coco_object.read(truth.data)
    assert dataset.read_objects is not None
    assert not dataset.read_mask(dataset.examples[1]).any()
    assert not dataset.read_objects(dataset.examples[1]).any()


@pytest.mark.parametrize(
    ("classes", "mask", "objects"),
    [
        (19, [255, 0, 13, 255, 255, 13, 255], [-1, 0, 1, -1, -1, -1, -1]),
        (27, [255, 0, 19, 22, 3, 19, 255], [-1, 0, 1, 2, 0, -1, -1]),
    ],
)
def test_which_objects_of_cityscapes_count(tmp_path, classes, mask, objects):
    """Void, road, a car, a caravan (no class of the 19), rail track (none either), a group of cars, licence plate."""
    start = tmp_path / "gtFine" / "val" / "lindau" / "lindau_000000_000019_gtFine"
    picture = tmp_path / "leftImg8bit" / "val" / "lindau" / "lindau_000000_000019_leftImg8bit.png"
    for path, values in (
        (f"{start}_labelIds.png", np.array([[4, 7, 26, 29, 10, 26, 255]], np.uint8)),
        (f"{start}_instanceIds.png", np.array([[4, 7, 26_003, 29_000, 10, 26, 255]], np.uint16)),
        (picture, np.zeros((1, 7, 3), np.uint8)),
    ):
        start.parent.mkdir(parents=True, exist_ok=True)
        picture.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values).save(path)
    dataset = cityscapes.read(tmp_path, classes=classes)
    assert dataset.read_objects is not None
    assert dataset.read_mask(dataset.examples[0]).tolist() == [mask]
    assert dataset.read_objects(dataset.examples[0]).tolist() == [objects]
