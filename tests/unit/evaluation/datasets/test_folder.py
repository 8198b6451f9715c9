"""A folder of one's own: labels, what is left out, values of any width."""

import numpy as np
import pytest
from PIL import Image

from clippy_core.errors import DataError, UsageError
from clippy_core.evaluation.benchmarks.folder import read
from clippy_core.evaluation.dense.masks import ignored_value
from clippy_core.images import Picture
from clippy_core.segmentation.result import Segmentation
from clippy_core.segmentation.writers.pictures import write_label_map


@pytest.fixture
def data(miniatures, tmp_path):
    return miniatures.MAKERS["folder"](tmp_path, seed=0).data


def test_labels_give_classes_synonyms_and_background(data):
    dataset = read(data)
    assert dataset.classes == ("background", "thing 1", "thing 2", "thing 3", "thing 4", "thing 5")
    assert dataset.synonyms == {f"thing {number}": (f"sort {number}",) for number in range(1, 6)}
    assert (dataset.background, dataset.background_names) == (0, ("nothing",))
    (data / "labels.txt").write_text("a\nb\nc\nd\ne\nf|Background\n")
    dataset = read(data, classes=6)
    assert (dataset.background, dataset.background_names) == (None, ())
    assert dataset.synonyms == {"f": ("Background",)}
    with pytest.raises(UsageError, match=r"7 classes were asked for, but .*labels.txt has 6 labels"):
        read(data, classes=7)


def test_what_has_no_counterpart_is_left_out_and_noted(data):
    for number in range(4):
        (data / "images" / f"extra {number}.png").write_bytes(b"never opened")
    (data / "masks" / "alone.png").write_bytes(b"never opened")
    dataset = read(data)
    assert len(dataset.examples) == 4
    assert dataset.notes == (
        "4 left out, without a mask: extra 0, extra 1, extra 2, …",
        "1 left out, masks without a picture: alone",
    )
    (data / "images" / "view 0.png").touch()
    with pytest.raises(DataError, match=r"view 0.png: view 0.jpg has the same name"):
        read(data)


def test_a_folder_without_a_pair_or_with_an_object_file_missing(data):
    (data / "instances" / "view 0.png").unlink()
    with pytest.raises(DataError, match=r"instances/view 0.png: no such file; 1 of 4 masks of objects are missing"):
        read(data)
    for path in list(data.glob("masks/**/*.png")):
        path.unlink()
    with pytest.raises(DataError, match="laid out as a labelled folder, but without a picture"):
        read(data)


def test_a_split_is_a_folder_in_each(data):
    for kind in ("images", "masks", "instances"):
        (data / kind / "street").rename(data / kind / "val")
    dataset = read(data, split="val")
    assert [example.name for example in dataset.examples] == ["view 2"]
    assert dataset.split == "val"
    assert dataset.read_objects is not None
    assert dataset.read_objects(dataset.examples[0]).max() > 1
    with pytest.raises(DataError, match="missing: images/test, masks/test"):
        read(data, split="test")


@pytest.mark.parametrize(
    ("labels", "dtype", "ignored"),
    [(2, np.uint8, 255), (255, np.uint8, 255), (256, np.uint16, 65535), (300, np.uint16, 65535)],
)
@pytest.mark.parametrize("wide", [False, True])
def test_ignored_pixels_have_the_largest_value_on_both_sides(tmp_path, labels, dtype, ignored, wide):
    """In the file as many bits as it likes, in the mask as many as the number of labels needs."""
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    Image.new("RGB", (3, 1)).save(tmp_path / "images" / "a.png")
    values_HW = np.array([[0, min(labels - 1, 254 if not wide else 65534), 0]], np.uint16 if wide else np.uint8)
    values_HW[0, 2] = np.iinfo(values_HW.dtype).max
    Image.fromarray(values_HW).save(tmp_path / "masks" / "a.png")
    (tmp_path / "labels.txt").write_text("".join(f"label {number}\n" for number in range(labels)))
    dataset = read(tmp_path)
    mask_HW = dataset.read_mask(dataset.examples[0])
    assert mask_HW.dtype == dtype
    assert mask_HW.tolist() == [[0, int(values_HW[0, 1]), ignored]]
    assert ignored_value(labels) == ignored


def test_a_label_beyond_the_list_is_named(data):
    (data / "labels.txt").write_text("a\nb\nc\n")
    dataset = read(data)
    with pytest.raises(DataError, match=r"a pixel has the value [345]; accepted: 0 to 2, and 255 for pixels that are"):
        dataset.read_mask(dataset.examples[0])


def test_label_maps_that_clippy_saves_are_masks(tmp_path):
    label_map_HW = np.array([[0, 1, 255], [2, 2, 0]], np.uint8)
    picture = Picture(np.zeros((2, 3, 3), np.uint8), "PNG")
    (tmp_path / "images").mkdir()
    Image.fromarray(picture.pixels_HW3).save(tmp_path / "images" / "a.png")
    result = Segmentation(picture, label_map_HW, ("dog", "grass", "sky"), np.zeros(3, np.float32))
    (path,) = write_label_map(result, tmp_path / "masks" / "a")
    assert path.name == "a.labels.png"
    (tmp_path / "labels.txt").write_text("dog\ngrass\nsky\n")
    dataset = read(tmp_path)
    assert np.array_equal(dataset.read_mask(dataset.examples[0]), label_map_HW)
