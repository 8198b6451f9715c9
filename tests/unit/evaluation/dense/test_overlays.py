"""The worst pictures, drawn."""

import numpy as np
import pytest
from PIL import Image

from clippy_core.evaluation.dense.dataset import DenseDataset, Example
from clippy_core.evaluation.dense.overlays import GAP, worst_first

SIZE = (120, 160)


def test_the_lowest_come_first_and_those_without_a_value_not_at_all():
    mious_N = np.array([0.5, np.nan, 0.2, 0.9, 0.2, 0.1])
    done_N = np.array([1, 1, 1, 1, 1, 0])
    assert worst_first(mious_N, done_N, 3) == [2, 4, 0]
    assert worst_first(mious_N, done_N, 99) == [2, 4, 0, 3]
    assert worst_first(mious_N, done_N, 0) == []


@pytest.fixture
def dataset(tmp_path):
    """Three grey pictures, left half cat, right half nothing that counts; the background is the last class."""
    mask_HW = np.zeros(SIZE, np.uint8)
    mask_HW[:, 80:] = 255
    examples = []
    for name in ("city/one", "city/two", "city/three"):
        path = tmp_path / "data" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (SIZE[1], SIZE[0]), (128, 128, 128)).save(path)
        examples.append(Example(name, path))
    return DenseDataset("d2", "val", ("cat", "background"), tuple(examples), lambda example: mask_HW, background=1)


def predictor(fakes):
    wrong = {"city/one": 10, "city/two": 70, "city/three": 30}

    def say(sample):
        labels_HW = np.zeros(SIZE, int)
        labels_HW[:, : wrong[sample.example.name]] = 1
        return labels_HW

    return fakes.Fake(say)


def test_prediction_beside_truth(fakes, dataset, tmp_path):
    out = tmp_path / "out"
    (out / "worst").mkdir(parents=True)
    (out / "worst" / "003-earlier.png").write_bytes(b"")
    fakes.run(dataset, predictor(fakes), out=out, worst=2)
    assert sorted(path.name for path in (out / "worst").iterdir()) == ["001-city_two.png", "002-city_three.png"]
    pixels = np.asarray(Image.open(out / "worst" / "001-city_two.png"))
    assert pixels.shape == (120, 2 * 160 + GAP, 3)
    assert (pixels[:, 160 : 160 + GAP] == 255).all()
    told, drawn = pixels[:, :160], pixels[:, 160 + GAP :]
    row = 60
    grey = [128, 128, 128]
    # Background and what does not count stay as they are; cats are tinted, in the same colour on both sides.
    assert told[row, 8].tolist() == grey
    assert drawn[row, 150].tolist() == grey
    assert told[row, 150].tolist() != grey
    assert drawn[row, 8].tolist() == told[row, 150].tolist()


def test_none_is_drawn_unasked(fakes, dataset, tmp_path):
    fakes.run(dataset, predictor(fakes), out=tmp_path / "out")
    assert not (tmp_path / "out" / "worst").exists()
