"""Pictures of a report: what is drawn, and that it is drawn."""

import sys

import numpy as np
import pytest
from PIL import Image

from clippy_core.errors import DeviceError
from clippy_core.evaluation.benchmarks import Report
from clippy_core.evaluation.plots import MOST_BARS, class_values, shares, write_plots

ROWS = [{"class": "cat", "IoU": "0.250"}, {"class": "a $x$", "IoU": 0.75}, {"class": "gone", "IoU": "–"}]
COUNTS = [[1, 3, 0], [2, 5, 1], [0, 0, 0]]


def size_of(path):
    with Image.open(path) as picture:
        return picture.size


def test_values_are_sorted_and_without_absent_classes():
    assert class_values(Report("x", {}, {}, ROWS)) == ("IoU", {"a $x$": 0.75, "cat": 0.25})
    nan = [{"class": "cat", "top-1": float("nan")}, {"class": "dog", "top-1": 1.0}]
    assert class_values(Report("x", {}, {}, nan)) == ("top-1", {"dog": 1.0})
    assert class_values(Report("x", {}, {}, [{"photograph": "a", "candidates": (1, 2)}])) == ("IoU", {})


def test_rows_of_the_matrix_are_shares():
    found_CC = shares(Report("x", {}, {}, ROWS, confusion=COUNTS))
    np.testing.assert_array_equal(found_CC[:2], [[0.25, 0.75, 0], [0.25, 0.625, 0.125]])
    assert np.isnan(found_CC[2]).all()


def test_files_are_pictures(tmp_path):
    files = write_plots(tmp_path, Report("voc21", {}, {}, ROWS, confusion=COUNTS))
    assert [file.name for file in files] == ["classes.png", "confusion.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["classes.png", "confusion.png"]
    for file in files:
        with Image.open(file) as picture:
            colours = picture.convert("RGB").getcolors(1 << 24)
            assert colours is not None
            assert len(colours) > 20


def test_more_bars_need_a_higher_picture_up_to_a_limit(tmp_path):
    heights = []
    for count in (10, MOST_BARS, 5 * MOST_BARS):
        rows = [{"class": str(index), "IoU": index / count} for index in range(count)]
        heights.append(size_of(write_plots(tmp_path, Report("x", {}, {}, rows))[0])[1])
    assert heights[0] < heights[1] == heights[2]


def test_a_matrix_of_many_classes_has_numbers_along_its_sides(tmp_path):
    counts_CC = np.eye(171, 172, dtype=int).tolist()
    rows = [{"class": f"class {index}", "IoU": 1.0} for index in range(171)]
    width, height = size_of(write_plots(tmp_path, Report("x", {}, {}, rows, confusion=counts_CC))[1])
    assert width < 2000
    assert height < 2000


def test_letters_that_the_font_lacks_are_boxes_and_that_is_said_once(tmp_path, recwarn):
    rows = [{"class": name, "IoU": 0.5} for name in ("牛", "Wiese", "空 und 牛")]
    heard = []
    files = write_plots(tmp_path, Report("x", {}, {}, rows, confusion=np.eye(3, dtype=int).tolist()), heard.append)
    assert len(files) == 2
    assert heard == ["names with letters that matplotlib's font lacks, drawn as boxes: 2"]
    assert not recwarn.list
    write_plots(tmp_path, Report("x", {}, {}, rows[1:2]), heard.append)
    assert len(heard) == 1


def test_nothing_to_draw_is_no_file(tmp_path):
    assert write_plots(tmp_path, Report("points", {}, {}, [{"photograph": "a"}])) == ()


def test_without_matplotlib(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(DeviceError, match=r'needs matplotlib .*pip install "clippy-vlm\[plots\]"'):
        write_plots(tmp_path, Report("x", {}, {}, ROWS))
