"""What is said of a folder that is not a data set."""

import pytest

from clippy_core.errors import DataError
from clippy_core.evaluation.layout import content, entries, folders_in, wrong_folder


def test_expected_missing_and_found(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "a.txt").touch()
    error = wrong_folder(tmp_path, "Things", "x/*.jpg and y.txt", missing="x", looked_at=tmp_path)
    said = f"{tmp_path}: not laid out as Things; expected: x/*.jpg and y.txt; missing: x; found"
    assert str(error) == f"{said}: a.txt, b/"
    below = wrong_folder(tmp_path, "Things", "x/*.jpg and y.txt", missing="x", looked_at=tmp_path / "b")
    assert str(below) == f"{said} in {tmp_path / 'b'}: nothing, the folder is empty"


def test_long_folders_are_cut_short(tmp_path):
    for number in range(1010):
        (tmp_path / f"{number:04}").touch()
    assert content(tmp_path) == "0000, 0001, 0002, 0003, 0004, 0005, 0006, 0007 and 1,002 more"


def test_what_is_no_folder(tmp_path):
    (tmp_path / "file").touch()
    assert "no such folder; one laid out as Things is expected" in str(
        wrong_folder(tmp_path / "file", "Things", "", missing="x")
    )
    with pytest.raises(DataError, match=r"file: cannot be listed \(Not a directory\)"):
        entries(tmp_path / "file")
    assert folders_in(tmp_path, ("", "file", "gone")) == [tmp_path]
