"""The run's COCO file against pycocotools, plain masks and a schema of the format."""

import json
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as rle
from pycocotools.coco import COCO

from clippy_core.errors import DataError
from clippy_core.segmentation.writers import WRITERS, coco
from clippy_core.segmentation.writers.coco import encode_masks, image_id
from clippy_core.segmentation.writers.collected import collect

# pycocotools 2.0.11 decodes into an array type that does not know numpy 2's keyword yet.
DECODING = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")
FRAGMENT = ".clippy/coco/{}.jsonl"
# Field → type, from https://cocodataset.org/#format-data (object detection).
SCHEMA = {
    "images": {"id": int, "width": int, "height": int, "file_name": str},
    "categories": {"id": int, "name": str, "supercategory": str},
    "annotations": {
        "id": int,
        "image_id": int,
        "category_id": int,
        "segmentation": dict,
        "area": int,
        "bbox": list,
        "iscrowd": int,
    },
}


@st.composite
def label_maps(draw):
    """Any label map of few labels, of either dtype, with pixels that are not decided."""
    dtype = draw(st.sampled_from([np.uint8, np.uint16]))
    shape = draw(st.tuples(st.integers(1, 12), st.integers(1, 12)))
    values = st.one_of(st.integers(0, 4), st.just(int(np.iinfo(dtype).max)))
    return draw(arrays(dtype, shape, elements=values))


@pytest.fixture
def run(segmentation, tmp_path):
    """``run({"a/b": label map or None, …})`` → records of pictures that were written, or failed for None."""

    def go(pictures, labels=("sky", "dog", "grass"), **fields):
        records = []
        for stem, label_map in pictures.items():
            source = f"photos/{stem}.jpg"
            if label_map is None:
                records.append(SimpleNamespace(input=source, status="failed", outputs=[], error="empty"))
                continue
            result = segmentation(label_map, labels, source=source, **fields)
            files = result.save(tmp_path / stem, ["labelmap", "coco"])
            outputs = [str(file.relative_to(tmp_path)) for file in files]
            records.append(SimpleNamespace(input=source, status="ok", outputs=outputs, error=None))
        return records

    return go


def some_map(seed, shape=(20, 30), count=3):
    return np.random.default_rng(seed).integers(0, count, shape).astype(np.uint8)


def load(folder):
    return json.loads((folder / "coco.json").read_text(encoding="utf-8"))


@settings(max_examples=200)
@given(label_maps())
def test_masks_are_encoded_as_pycocotools_encodes_them(label_map):
    indices = [index for index in range(5) if (label_map == index).any()]
    found = encode_masks(label_map, indices)
    assert list(found) == indices
    for index in indices:
        expected = rle.encode(np.asfortranarray(label_map == index, np.uint8))
        assert found[index] == expected["counts"].decode()


def test_many_labels_on_a_large_picture_take_no_mask_each():
    """150 masks of this picture would be 150 times its size."""
    label_map = np.repeat(np.repeat(some_map(0, (50, 50), 150), 20, axis=0), 20, axis=1)
    tracemalloc.start()
    try:
        found = encode_masks(label_map, list(range(150)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(found) == 150
    assert peak < 8 * label_map.size


@DECODING
def test_one_file_covers_the_run_and_pycocotools_decodes_it(run, tmp_path, capsys):
    maps = {"a/one": some_map(0), "a/two": some_map(1, (31, 17)), "three": some_map(2)}
    records = run({**maps, "bad": None})
    assert collect(tmp_path, ["labelmap", "coco"], records) == [tmp_path / "coco.json"]
    read = COCO(str(tmp_path / "coco.json"))
    assert {image["file_name"] for image in read.imgs.values()} == {f"{stem}.jpg" for stem in maps}
    assert [category["name"] for category in read.loadCats(read.getCatIds())] == ["sky", "dog", "grass"]
    for image in read.imgs.values():
        label_map = maps[image["file_name"].removesuffix(".jpg")]
        assert (image["height"], image["width"]) == label_map.shape
        annotations = read.loadAnns(read.getAnnIds(imgIds=[image["id"]]))
        assert {annotation["category_id"] - 1 for annotation in annotations} == set(np.unique(label_map))
        for annotation in annotations:
            mask = label_map == annotation["category_id"] - 1
            np.testing.assert_array_equal(np.asarray(read.annToMask(annotation), bool), mask)
            assert annotation["area"] == mask.sum() == rle.area(annotation["segmentation"])
            assert annotation["bbox"] == rle.toBbox(annotation["segmentation"]).tolist()


def test_the_file_has_the_fields_of_the_format(run, tmp_path):
    collect(tmp_path, ["coco"], run({"one": some_map(0), "two": some_map(1)}))
    document = load(tmp_path)
    assert {"info", "licenses", "images", "categories", "annotations"} == set(document)
    for part, fields in SCHEMA.items():
        assert document[part], part
        for entry in document[part]:
            for name, kind in fields.items():
                assert type(entry[name]) is kind, (part, name)
        ids = [entry["id"] for entry in document[part]]
        assert len(set(ids)) == len(ids)
        assert min(ids) > 0
    images, categories = ({entry["id"] for entry in document[part]} for part in ("images", "categories"))
    for annotation in document["annotations"]:
        assert annotation["image_id"] in images
        assert annotation["category_id"] in categories
        assert annotation["iscrowd"] in (0, 1)


def test_the_background_is_no_category(run, tmp_path):
    collect(tmp_path, ["coco"], run({"one": some_map(0)}, ["background", "dog", "grass"], has_background=True))
    document = load(tmp_path)
    assert [category["id"] for category in document["categories"]] == [2, 3]
    assert {annotation["category_id"] for annotation in document["annotations"]} == {2, 3}


def test_ids_depend_on_the_path_alone(run, tmp_path):
    maps = {"a/one": some_map(0), "two": some_map(1)}
    collect(tmp_path, ["coco"], run(maps))
    before = {image["file_name"]: image["id"] for image in load(tmp_path)["images"]}
    # SHA-256 of "two.jpg" begins with these bytes (`printf two.jpg | sha256sum`).
    assert before["two.jpg"] == int("3dad22fd62d9670f", 16) >> 11
    collect(tmp_path, ["coco"], run({"0": some_map(3), **maps, "a/0": some_map(4)}))
    after = {image["file_name"]: image["id"] for image in load(tmp_path)["images"]}
    assert before.items() <= after.items()
    assert all(0 < number < 2**53 for number in after.values())


def test_the_order_of_the_records_and_a_second_attempt_do_not_matter(run, tmp_path):
    records = run({"b": some_map(0), "a/c": some_map(1), "a": some_map(2)})
    collect(tmp_path, ["coco"], records)
    before = (tmp_path / "coco.json").read_bytes()
    collect(tmp_path, ["coco"], [*records[::-1], records[0]])
    assert (tmp_path / "coco.json").read_bytes() == before


def test_equal_names_below_two_inputs_are_told_apart(segmentation, tmp_path):
    records = []
    for stem, source in (("img.jpg", "x/img.jpg"), ("img.jpg-2", "y/img.jpg")):
        files = segmentation(some_map(0), source=source).save(tmp_path / stem, ["coco"])
        outputs = [str(file.relative_to(tmp_path)) for file in files]
        records.append(SimpleNamespace(input=source, status="ok", outputs=outputs))
    collect(tmp_path, ["coco"], records)
    images = load(tmp_path)["images"]
    assert [image["file_name"] for image in images] == ["img.jpg-2", "img.jpg"]
    assert len({image["id"] for image in images}) == 2


def test_ids_that_coincide_are_moved_apart(run, tmp_path, monkeypatch):
    records = run({"a": some_map(0), "b": some_map(1), "c": some_map(2)})
    monkeypatch.setattr(coco, "image_id", lambda name: 5)
    collect(tmp_path, ["coco"], records)
    document = load(tmp_path)
    assert [image["id"] for image in document["images"]] == [5, 6, 7]
    assert {annotation["image_id"] for annotation in document["annotations"]} == {5, 6, 7}


def test_a_run_in_which_everything_failed_has_an_empty_file(run, tmp_path):
    collect(tmp_path, ["coco"], run({"bad": None}))
    document = load(tmp_path)
    assert document["images"] == document["annotations"] == document["categories"] == []


def test_a_name_that_is_no_utf8_is_kept(segmentation, tmp_path):
    source = b"photos/\xff\xfe.jpg".decode("utf-8", "surrogateescape")
    files = segmentation([[0]], source=source).save(tmp_path / source[7:-4], ["coco"])
    collect(tmp_path, ["coco"], [SimpleNamespace(outputs=[str(file.relative_to(tmp_path)) for file in files])])
    (image,) = load(tmp_path)["images"]
    assert image["file_name"] == source.removeprefix("photos/")
    assert image["id"] == image_id(image["file_name"])


@pytest.mark.parametrize("damage", [b"", b"{", b"[1, 2]\n", b'{"name": "x"}\n', b"\xff\n"])
def test_a_damaged_fragment_is_one_line(run, tmp_path, damage):
    records = run({"one": some_map(0), "two": some_map(1)})
    (tmp_path / FRAGMENT.format("two")).write_bytes(damage)
    with pytest.raises(DataError, match=r"two\.jsonl: damaged; --overwrite makes it anew$"):
        collect(tmp_path, ["coco"], records)
    assert not (tmp_path / "coco.json").exists()


def test_a_missing_fragment_is_one_line(run, tmp_path):
    records = run({"one": some_map(0)})
    (tmp_path / FRAGMENT.format("one")).unlink()
    with pytest.raises(DataError, match=r"one\.jsonl: cannot be read \(No such file"):
        collect(tmp_path, ["coco"], records)


def test_fragments_about_other_labels_are_refused(run, tmp_path):
    records = run({"one": some_map(0)}) + run({"two": some_map(0)}, ["a", "b", "c"])
    with pytest.raises(DataError, match=r"two\.jpg: segmented with other labels"):
        collect(tmp_path, ["coco"], records)


def test_every_annotation_of_a_picture_carries_its_score(run, tmp_path):
    collect(tmp_path, ["coco"], run({"one": some_map(0)}, scores=[0.25, 0.5, -0.125]))
    assert [annotation["score"] for annotation in load(tmp_path)["annotations"]] == [0.25, 0.5, -0.125]


def test_the_writer_is_found_by_name_and_leaves_one_hidden_fragment(segmentation, tmp_path):
    files = WRITERS.load("coco")(segmentation([[0, 1]]), tmp_path / "a" / "v1.0")
    assert files == [tmp_path / "a/.clippy/coco/v1.0.jsonl"]
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == files
