"""Where exported files go: beside the folder until they are whole, and never over somebody else's."""

import shutil

import pytest

from clippy_core.errors import DataError
from clippy_core.export.publish import folder_beside


def test_a_configuration_of_something_else_is_not_written_over(tmp_path):
    path = tmp_path / "config.json"
    path.write_text('{"port": 80}')
    with pytest.raises(DataError, match=r"config\.json: is there already, and not by clippy"), folder_beside(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_that_of_a_model_may_be(tmp_path, tiny_directory):
    shutil.copy(tiny_directory / "config.json", tmp_path)
    with folder_beside(tmp_path) as making:
        assert making.parent == tmp_path
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
