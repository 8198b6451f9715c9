"""The points benchmark on an index small enough to be counted by hand."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from clippy_core.errors import DataError, ImageError, UsageError
from clippy_core.evaluation.benchmarks import BENCHMARKS, BenchmarkOptions
from clippy_core.evaluation.benchmarks.points import INDEX, Outcome, outcomes, run
from clippy_core.evaluation.metrics import wilson_interval
from clippy_core.images import to_picture
from clippy_core.segmentation.options import SegmentOptions, Windows
from clippy_core.segmentation.result import Segmentation


class LooksAtColours:
    """A segmenter for pictures whose red is the index of the label; 255 is not decided."""

    config = SimpleNamespace(name="colours", vision=SimpleNamespace(size=64), templates=("{}",))
    placement = SimpleNamespace(dtype=torch.float32)

    def __init__(self):
        self.calls = []

    def segment(self, image, labels, options):
        self.calls.append((image.name, tuple(labels), options))
        picture = to_picture(image)
        names = tuple(labels)
        label_map = np.ascontiguousarray(picture.pixels_HW3[..., 0])
        return Segmentation(picture, label_map, names, np.zeros(len(names), np.float32))


def photograph(folder, name, values, **options):
    pixels = np.zeros((*np.shape(values), 3), np.uint8)
    pixels[..., 0] = values
    Image.fromarray(pixels).save(folder / name, **options)


def index(folder, *photographs):
    (folder / INDEX).write_text(json.dumps({"description": "for a test", "photographs": photographs}), encoding="utf-8")


def point(x, y, label):
    return {"x": x, "y": y, "label": label}


@pytest.fixture
def data(tmp_path):
    """Two photographs; the model is right at 3 of 5 points of the first and at 1 of 2 of the second."""
    photograph(tmp_path, "one.png", [[0, 0, 1, 1], [2, 2, 255, 1]])
    photograph(tmp_path, "two.png", [[1, 0]])
    index(
        tmp_path,
        {
            "id": "one",
            "candidates": ["dog", "grass", "sky"],
            "candidates_12": ["sky", "dog", "grass"],
            "points": [
                point(0.0, 0.0, "dog"),  # right
                point(0.49, 0.49, "grass"),  # wrong: still in the second column
                point(0.5, 0.0, "grass"),  # right: the third column begins here
                point(0.6, 0.9, "sky"),  # wrong: not decided
                point(1.0, 1.0, "grass"),  # right: the last pixel
            ],
        },
        {"id": "two", "candidates": ["dog", "grass"], "points": [point(0.1, 0.5, "grass"), point(0.9, 0.5, "grass")]},
    )
    return tmp_path


def test_what_the_model_says_at_every_point(data):
    found = list(outcomes(LooksAtColours(), data, BenchmarkOptions()))
    assert found[:5] == [
        Outcome("one", "candidates", "dog", "dog"),
        Outcome("one", "candidates", "grass", "dog"),
        Outcome("one", "candidates", "grass", "grass"),
        Outcome("one", "candidates", "sky", None),
        Outcome("one", "candidates", "grass", "grass"),
    ]
    assert [outcome.predicted for outcome in found[5:10]] == ["sky", "sky", "dog", None, "dog"]
    assert found[10:] == [Outcome("two", "candidates", "grass", "grass"), Outcome("two", "candidates", "grass", "dog")]


def test_the_report_counts_by_hand(data):
    report = run(LooksAtColours(), data, BenchmarkOptions())
    low, high = wilson_interval(4, 7)
    assert report.benchmark == "points"
    assert report.metrics["candidates: points right"] == pytest.approx(4 / 7)
    assert report.metrics["candidates: 95 % interval, low"] == low
    assert report.metrics["candidates: 95 % interval, high"] == high
    assert report.metrics["candidates: points"] == 7
    assert report.metrics["candidates_12: points right"] == 0
    assert report.metrics["candidates_12: points"] == 5
    assert report.rows == [
        {"photograph": "one", "candidates": (3, 5), "candidates_12": (0, 5)},
        {"photograph": "two", "candidates": (1, 2)},
    ]


def test_the_model_chooses_from_the_candidates_with_the_options_given(data):
    segmenter = LooksAtColours()
    chosen = SegmentOptions(size=96)
    run(segmenter, data, BenchmarkOptions(chosen))
    assert segmenter.calls == [
        ("one.png", ("dog", "grass", "sky"), chosen),
        ("one.png", ("sky", "dog", "grass"), chosen),
        ("two.png", ("dog", "grass"), chosen),
    ]


def test_a_limit_takes_the_first_photographs(data):
    report = run(LooksAtColours(), data, BenchmarkOptions(limit=1))
    assert [row["photograph"] for row in report.rows] == ["one"]
    assert report.protocol["photographs"] == 1


def test_every_choice_is_in_the_protocol_and_can_be_written_down(data):
    protocol = run(LooksAtColours(), data, BenchmarkOptions()).protocol
    assert (protocol["model"], protocol["photographs"], protocol["precision"]) == ("colours", 2, "float32")
    assert (protocol["size"], protocol["templates"]) == (64, ("{}",))
    options = SegmentOptions(size=96, templates=("a {}",), background="margin=0.1", windows=Windows(64, 32))
    other = json.loads(json.dumps(run(LooksAtColours(), data, BenchmarkOptions(options)).protocol))
    assert (other["size"], other["templates"]) == (96, ["a {}"])
    assert other["background"]["kind"] == "margin"
    assert other["windows"] == {"window": 64, "stride": 32}


def test_points_are_places_in_the_picture_as_displayed(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # stored row 0, column 0 is displayed in the upper right corner
    photograph(tmp_path, "turned.png", [[1, 0, 0], [0, 0, 0]], exif=exif)
    points = [point(0.9, 0.1, "grass"), point(0.1, 0.1, "dog"), point(0.1, 0.9, "dog")]
    index(tmp_path, {"id": "turned", "candidates": ["dog", "grass"], "points": points})
    assert run(LooksAtColours(), tmp_path, BenchmarkOptions()).metrics["candidates: points right"] == 1


@pytest.mark.parametrize("name", ["photo.jpg.png", "a [1].png", "points.png"])
def test_a_photograph_is_found_by_its_id(tmp_path, name):
    photograph(tmp_path, name, [[0]])
    index(tmp_path, {"id": name.removesuffix(".png"), "candidates": ["dog"], "points": [point(0, 0, "dog")]})
    assert run(LooksAtColours(), tmp_path, BenchmarkOptions()).metrics["candidates: points right"] == 1


GOOD = {"id": "one", "candidates": ["dog"], "points": [{"x": 0.5, "y": 0.5, "label": "dog"}]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(None, "cannot be read (No such file or directory); expected: points.json", id="missing"),
        pytest.param("", "not an index of points", id="empty"),
        pytest.param("{", "not an index of points", id="half a document"),
        pytest.param("[]", "not an index of points", id="a list"),
        pytest.param("{}", "not an index of points ('photographs' is missing; accepted: {", id="no photographs"),
        pytest.param({"photographs": []}, "no photograph is listed", id="an empty list"),
        pytest.param({"photographs": 3}, "not an index of points", id="a number"),
        pytest.param({"photographs": ["one"]}, "not an index of points", id="a name"),
        pytest.param({"photographs": [{**GOOD, "id": 3}]}, "not an index of points", id="an id that is no text"),
        pytest.param({"photographs": [{**GOOD, "id": "../one"}]}, "'../one': a file name", id="an id that leads out"),
        pytest.param({"photographs": [{**GOOD, "id": "/one"}]}, "'/one': a file name", id="an absolute id"),
        pytest.param({"photographs": [{"id": "one", "candidates": ["dog"]}]}, "('points' is missing", id="no points"),
        pytest.param({"photographs": [{**GOOD, "points": []}]}, "at least one point", id="an empty list of points"),
        pytest.param(
            {"photographs": [{"candidates": ["dog"], "points": GOOD["points"]}]}, "('id' is missing; ", id="no id"
        ),
        pytest.param(
            {"photographs": [{**GOOD, "points": [{"x": 0.5, "label": "dog"}]}]}, "('y' is missing; ", id="half a point"
        ),
        pytest.param(
            {"photographs": [{**GOOD, "points": [{"x": 1.01, "y": 0, "label": "dog"}]}]},
            "'one': a point lies outside the picture",
            id="a point outside",
        ),
        pytest.param(
            {"photographs": [{**GOOD, "points": [{"x": "0.5", "y": 0, "label": "dog"}]}]},
            "not an index of points (a value is of another type than expected; accepted: ",
            id="a coordinate in quotes",
        ),
        pytest.param(
            {"photographs": [{**GOOD, "points": [{"x": float("nan"), "y": 0, "label": "dog"}]}]},
            "outside the picture",
            id="NaN",
        ),
        pytest.param(
            {"photographs": [{**GOOD, "points": [{"x": 0, "y": 0, "label": "cat"}]}]},
            "'cat' is not among its candidates",
            id="a label that is no candidate",
        ),
        pytest.param(
            {"photographs": [{**GOOD, "candidates": ["dog", "dog"]}]},
            "photograph 'one', candidates: label 'dog' is repeated",
            id="a candidate twice",
        ),
        pytest.param(
            {"photographs": [{**GOOD, "candidates_12": ["cat"]}]},
            "'dog' is not among its candidates_12",
            id="a label that is no candidate of the longer set",
        ),
    ],
)
def test_a_malformed_index_is_a_data_error_of_one_line(tmp_path, content, message):
    if content is not None:
        (tmp_path / INDEX).write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    photograph(tmp_path, "one.png", [[0]])
    with pytest.raises(DataError) as caught:
        run(LooksAtColours(), tmp_path, BenchmarkOptions())
    assert str(caught.value).startswith(f"{tmp_path / INDEX}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_photograph_that_is_listed_but_not_there_is_named(tmp_path):
    index(tmp_path, {**GOOD, "id": "points"})
    with pytest.raises(DataError, match=r"no picture named points\.\*; the index lists it"):
        run(LooksAtColours(), tmp_path, BenchmarkOptions())


def test_a_damaged_photograph_is_an_image_error(tmp_path):
    index(tmp_path, GOOD)
    (tmp_path / "one.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(ImageError, match=r"one\.png"):
        run(LooksAtColours(), tmp_path, BenchmarkOptions())


def test_the_benchmark_is_registered():
    assert BENCHMARKS.load("points") is run


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_that_leaves_nothing_is_refused(data, limit):
    with pytest.raises(UsageError, match=f"--limit is {limit}; accepted: 1 or more"):
        BenchmarkOptions(limit=limit)
