"""Folders that are not what they should be: what is said, and that it names what is wrong."""

import json

import numpy as np
import pytest
from PIL import Image

from clippy_core.errors import DataError, DeviceError, UsageError
from clippy_core.evaluation.benchmarks import (
    ade20k,
    cityscapes,
    coco_object,
    coco_panoptic,
    coco_stuff,
    context,
    folder,
    voc,
)

READERS = {
    "voc": voc.read,
    "context": context.read,
    "coco-stuff": coco_stuff.read,
    "coco-object": coco_object.read,
    "coco-panoptic": coco_panoptic.read,
    "ade20k": ade20k.read,
    "cityscapes": cityscapes.read,
    "folder": folder.read,
}
# A file of the miniature of seed 0 that may not be missing, and one of those that show what is expected.
PICTURES = {
    "voc": "VOC2012/JPEGImages/2008_000123.jpg",
    "context": "VOC2010/JPEGImages/2008_000123.jpg",
    "coco-stuff": "images/val2017/000000000285.jpg",
    "coco-object": "val2017/000000000285.jpg",
    "coco-panoptic": "val2017/000000000285.jpg",
    "ade20k": "ADEChallengeData2016/images/validation/ADE_val_00000002.jpg",
}
MASKS = {
    "voc": "VOC2012/SegmentationClass/2008_000123.png",
    "context": "VOC2010/SegmentationClassContext/2008_000123.png",
    "coco-stuff": "annotations/val2017/000000000285.png",
    "coco-panoptic": "annotations/panoptic_val2017/000000000285.png",
    "ade20k": "ADEChallengeData2016/annotations/validation/ADE_val_00000002.png",
}
EXPECTED = {
    "voc": ("SegmentationClass/2007_000033.png", "ImageSets/Segmentation/val.txt"),
    "context": ("SegmentationClassContext/2008_000002.png", "trainval/2008_000002.mat"),
    "coco-stuff": ("[images/]val2017/000000000139.jpg", "annotations/val2017/000000000139.png"),
    "coco-object": ("annotations/instances_val2017.json", "_instanceTrainIds.png"),
    "coco-panoptic": ("panoptic_val2017.json", "panoptic_val2017/000000000139.png"),
    "ade20k": ("images/validation/ADE_val_00000001.jpg", "annotations/validation/ADE_val_00000001.png"),
    "cityscapes": ("_leftImg8bit.png", "_gtFine_labelIds.png"),
    "folder": ("labels.txt", "masks/NAME.png"),
}


@pytest.mark.parametrize("benchmark", READERS)
def test_a_wrong_folder_is_answered_with_the_layout_and_what_was_found(tmp_path, benchmark):
    (tmp_path / "holiday").mkdir()
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DataError) as caught:
        READERS[benchmark](tmp_path)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path}: not laid out as ")
    assert all(expected in message for expected in EXPECTED[benchmark])
    assert message.endswith("; found: holiday/, notes.txt")
    assert len(message.splitlines()) == 1


def test_of_several_folders_the_closest_is_spoken_of(tmp_path):
    for name in ("JPEGImages", "ImageSets/Segmentation", *map(str, range(9))):
        (tmp_path / "VOCdevkit" / "VOC2012" / name).mkdir(parents=True)
    with pytest.raises(DataError, match=r"missing: SegmentationClass; found in .*VOC2012: .* more$"):
        voc.read(tmp_path)
    with pytest.raises(DataError, match="no such folder; one laid out as PASCAL VOC 2012 is expected"):
        voc.read(tmp_path / "nowhere")


@pytest.mark.parametrize(("benchmark", "below"), [("voc", "VOC2012"), ("context", "VOC2010")])
def test_the_folder_may_be_given_at_any_depth(miniatures, tmp_path, benchmark, below):
    truth = miniatures.MAKERS[benchmark](tmp_path, seed=0)
    found = [READERS[benchmark](path) for path in (tmp_path, truth.data, truth.data / below)]
    assert {dataset.examples[0].image.resolve() for dataset in found} == {truth.images[truth.names[0]].resolve()}


@pytest.mark.parametrize(("benchmark", "files"), [("picture", PICTURES), ("mask", MASKS)])
def test_a_missing_file_is_named(miniatures, tmp_path, benchmark, files):
    for name, file in files.items():
        truth = miniatures.MAKERS[name](tmp_path / name, seed=0)
        (truth.data / file).unlink()
        with pytest.raises(DataError, match="no such file; 1 of 4 ") as caught:
            READERS[name](truth.data)
        assert str(truth.data / file) in str(caught.value)


def test_missing_files_of_cityscapes_are_named(miniatures, tmp_path):
    truth = miniatures.MAKERS["cityscapes"](tmp_path, seed=0)
    path = next(tmp_path.glob("gtFine/val/lindau/*instanceIds.png"))
    path.unlink()
    with pytest.raises(DataError, match=f"{path.name}: no such file; 1 of 4 masks of objects of the val split"):
        cityscapes.read(tmp_path)
    path = next(tmp_path.glob("gtFine/val/lindau/*labelIds.png"))
    path.unlink()
    with pytest.raises(DataError, match=f"{path.name}: no such file; 1 of 4 masks of the val split"):
        cityscapes.read(tmp_path)
    truth.images[truth.names[0]].unlink()
    with pytest.raises(DataError, match="1 of 4 pictures are missing"):
        cityscapes.read(tmp_path)


def test_masks_of_test_splits_are_missed_before_anything_is_measured(miniatures, tmp_path):
    truth = miniatures.MAKERS["voc"](tmp_path, seed=0)
    root = truth.data / "VOC2012"
    (root / "JPEGImages" / "2008_000006.jpg").write_bytes(truth.images[truth.names[0]].read_bytes())
    (root / "ImageSets" / "Segmentation" / "test.txt").write_text("2008_000006\n")
    with pytest.raises(DataError, match=r"2008_000006.png: no such file; 1 of 1 masks of the test split are missing"):
        voc.read(truth.data, split="test")
    with pytest.raises(DataError, match=r"trainval.txt: the list of pictures cannot be read \(No such [a-z ]*\); exp"):
        voc.read(truth.data, split="trainval")
    assert [example.name for example in voc.read(truth.data, split="train").examples] == ["2007_000033"]
    miniatures.MAKERS["cityscapes"](tmp_path / "cityscapes", seed=0)
    with pytest.raises(DataError, match="the test split of Cityscapes are not public; use val or train"):
        cityscapes.read(tmp_path / "cityscapes", split="test")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty; expected: text, the name of a picture a line"),
        (b"\n \n", "is empty"),
        (b"a\nb\na\n", "'a' is on the list twice"),
        (b"\xff", r"cannot be read \(no UTF-8\); expected: text"),
    ],
)
def test_lists_that_cannot_be_right(miniatures, tmp_path, content, message):
    truth = miniatures.MAKERS["voc"](tmp_path, seed=0)
    (truth.data / "VOC2012" / "ImageSets" / "Segmentation" / "val.txt").write_bytes(content)
    with pytest.raises(DataError, match=message):
        voc.read(truth.data)


@pytest.mark.parametrize(
    ("benchmark", "accepted"),
    [
        ("voc", "21, 20"),
        ("context", "60, 59"),
        ("coco-stuff", "171"),
        ("coco-object", "81"),
        ("coco-panoptic", "133"),
        ("ade20k", "150"),
        ("cityscapes", "19, 27"),
    ],
)
def test_numbers_of_classes_and_splits_that_there_are_not(miniatures, tmp_path, benchmark, accepted):
    truth = miniatures.MAKERS[benchmark](tmp_path, seed=0)
    with pytest.raises(
        UsageError, match=f"benchmark '{benchmark}' has no protocol of 7 classes; accepted: {accepted}$"
    ):
        READERS[benchmark](truth.data, classes=7)
    with pytest.raises(UsageError, match=f"benchmark '{benchmark}' has no split 'dev'; accepted: val, train"):
        READERS[benchmark](truth.data, split="dev")


@pytest.mark.parametrize("benchmark", MASKS)
def test_a_mask_of_another_size_than_its_picture_is_named(miniatures, tmp_path, benchmark):
    truth = miniatures.MAKERS[benchmark](tmp_path, seed=0)
    path = truth.data / MASKS[benchmark]
    with Image.open(path) as image:
        image.resize((30, 48), Image.Resampling.NEAREST).save(path)
    dataset = READERS[benchmark](truth.data)
    with pytest.raises(
        DataError, match=r"30×48 pixels, but .* has 31×48; a mask has the size of its picture"
    ) as caught:
        dataset.read_mask(dataset.examples[1])
    assert str(path) in str(caught.value)


def test_the_size_in_a_file_of_objects_counts_too(miniatures, tmp_path):
    truth = miniatures.MAKERS["coco-object"](tmp_path, seed=0)
    index = truth.data / "annotations" / "instances_val2017.json"
    document = json.loads(index.read_text())
    document["images"][0]["width"] += 1
    document["annotations"] = []
    index.write_text(json.dumps(document))
    dataset = coco_object.read(truth.data)
    assert dataset.read_objects is not None
    for read in (dataset.read_mask, dataset.read_objects):
        with pytest.raises(DataError, match=r"000000000139 in the file of objects: 54×37 pixels, but .* has 53×37"):
            read(dataset.examples[0])


def test_values_that_stand_for_no_class(miniatures, tmp_path):
    truth = miniatures.MAKERS["ade20k"](tmp_path, seed=0)
    path = truth.data / MASKS["ade20k"]
    values_HW = np.full((48, 31), 150, np.uint8)
    values_HW[0, :3] = 151, 200, 255
    Image.fromarray(values_HW).save(path)
    dataset = ade20k.read(truth.data)
    with pytest.raises(DataError, match=r"3 pixels have values that stand for no class \(151, 200, 255\)"):
        dataset.read_mask(dataset.examples[1])


def test_matlab_files_need_scipy_and_the_classes_that_are_expected(miniatures, tmp_path, monkeypatch):
    truth = miniatures.MAKERS["context"](tmp_path, seed=0, kind="mat")
    labels = truth.data / "labels.txt"
    labels.write_text("".join(f"{n}: {name}\n" for n, name in context.words.NUMBERS.items()))
    assert len(context.read(truth.data).examples) == 4
    labels.write_text(labels.read_text().replace("258: motorbike", "258: motor bike").replace("2: aero", "3: aero"))
    with pytest.raises(DataError, match="class 2 is None; 'aeroplane' is expected"):
        context.read(truth.data)
    labels.unlink()
    for content, message in ((b"no MATLAB file" * 20, "damaged or not a MATLAB file"), (b"", "damaged or not")):
        (truth.data / "trainval" / "2007_000033.mat").write_bytes(content)
        dataset = context.read(truth.data)
        with pytest.raises(DataError, match=message):
            dataset.read_mask(dataset.examples[0])
    monkeypatch.setattr(context.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DeviceError, match="run pip install scipy"):
        context.read(truth.data)
