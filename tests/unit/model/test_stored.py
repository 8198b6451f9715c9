"""Stored weights as numpy arrays are the numbers that torch makes of the same file."""

import json
import struct

import numpy as np
import pytest
import torch

from clippy_core.errors import CheckpointError
from clippy_core.model.presets import find
from clippy_core.model.stored import StoredWeights
from clippy_core.model.weights import load_state, pack, unpack, write_tensors

STATE = {
    "text.encoder.rows.weight": torch.linspace(-3, 5, 24).view(6, 4),
    "vision.weight": torch.linspace(-1, 1, 30).view(2, 3, 5),
    "count": torch.tensor(7),
    "logit_scale": torch.tensor(2.6593),
}


@pytest.fixture
def written(tmp_path):
    def write(storage):
        path = tmp_path / f"{storage}.safetensors"
        with open(path, "wb") as file:
            write_tensors(file, STATE, storage)
        return path

    return write


@pytest.mark.parametrize("storage", ["fp32", "fp16", "compact"])
def test_every_storage_gives_the_numbers_that_torch_gets(written, storage):
    stored, expected = StoredWeights(written(storage)), unpack(pack(STATE, storage))
    assert stored.names == expected.keys()
    for name, tensor in expected.items():
        values = stored.read(name)
        assert values.dtype == tensor.numpy().dtype
        assert np.array_equal(values, tensor.numpy())
        assert stored.shape(name) == tuple(tensor.shape)


@pytest.mark.parametrize("storage", ["fp32", "compact"])
def test_rows_are_those_of_the_whole(written, storage):
    stored, rows = StoredWeights(written(storage)), np.array([5, 0, 5])
    name = "text.encoder.rows.weight"
    assert np.array_equal(stored.read(name, rows), stored.read(name)[rows])


def test_the_bundled_weights_are_read_to_the_last_bit():
    directory = find("clippy-lite")
    stored, expected = StoredWeights(directory / "model.safetensors"), load_state(directory)
    assert stored.names == expected.keys()
    assert all(np.array_equal(stored.read(name), tensor.numpy()) for name, tensor in expected.items())


HEADER = {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}


def file_of(header, data=b"\0" * 8):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"short",
        file_of(b"{"),
        file_of([1]),
        struct.pack("<Q", 1 << 60) + b"{}",
        file_of(HEADER, b"\0" * 4),
        file_of({"a": HEADER["a"] | {"dtype": "BF16"}}),
        file_of({"a": HEADER["a"] | {"shape": [3]}}),
        file_of({"a": {"dtype": "F32"}}),
    ],
    ids=["empty", "short", "no-JSON", "a-list", "huge-header", "cut", "unknown-format", "misshapen", "incomplete"],
)
def test_what_is_no_safetensors_file_is_refused_in_one_line(tmp_path, content):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="not a readable safetensors file") as caught:
        StoredWeights(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="not a readable safetensors file"):
        StoredWeights(tmp_path / "model.safetensors")
