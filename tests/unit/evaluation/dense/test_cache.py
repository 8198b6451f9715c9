"""Arrays on disk: found again, made anew when damaged, and no more than fit."""

import numpy as np
import pytest

from clippy_core.evaluation.dense.cache import FeatureCache, hash_key, hash_model, read_arrays
from clippy_core.model.device import place
from clippy_core.model.weights import load_directory
from clippy_core.segmentation.segmenter import Segmenter


class Counted:
    """Makes arrays and counts how often."""

    def __init__(self, size=6):
        self.calls = 0
        self.size = size

    def __call__(self):
        self.calls += 1
        return {"a": np.linspace(0, 1, self.size, dtype=np.float32), "grid": np.array([2, 3])}


def test_what_was_made_is_found_to_the_bit(tmp_path):
    make = Counted()
    first = FeatureCache(tmp_path / "cache").get(["x", 1], make)
    again = FeatureCache(tmp_path / "cache")
    found = again.get(["x", 1], make)
    assert make.calls == 1
    assert (again.found, again.made) == (1, 0)
    assert found.keys() == first.keys()
    for name, array in first.items():
        assert found[name].dtype == array.dtype
        assert np.array_equal(found[name], array)
    again.get(["x", 2], make)
    assert make.calls == 2
    assert (again.found, again.made) == (1, 1)


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "text"])
def test_a_damaged_entry_is_made_anew(tmp_path, damage):
    make, cache = Counted(300), FeatureCache(tmp_path)
    cache.get("key", make)
    (entry,) = tmp_path.glob("*.npz")
    data = bytearray(entry.read_bytes())
    data[600] ^= 4
    entry.write_bytes({"cut": bytes(data[:700]), "flip": bytes(data), "empty": b"", "text": b"hello"}[damage])
    assert read_arrays(entry) is None
    found = FeatureCache(tmp_path).get("key", make)
    assert make.calls == 2
    assert np.array_equal(found["a"], make()["a"])
    stored = read_arrays(entry)
    assert stored is not None
    assert np.array_equal(stored["a"], found["a"])


def test_a_full_folder_stays_as_it_is(tmp_path):
    make = Counted(1000)  # 4,016 bytes an entry
    cache = FeatureCache(tmp_path, limit=9000)
    for key in range(4):
        cache.get([key], make)
    assert cache.full
    assert len(list(tmp_path.glob("*.npz"))) == 2
    for key in range(2):
        cache.get([key], make)
    assert make.calls == 4
    # What lies there counts for the next run.
    later = FeatureCache(tmp_path, limit=9000)
    later.get([9], make)
    assert later.full


def test_keys_differ_with_everything_in_them():
    keys = [["a", 1], ["a", 2], ["b", 1], ["a", 1, None], ["a", "1"], {"a": 1}, {"a": [1]}]
    assert len({hash_key(key) for key in keys}) == len(keys)


def test_a_model_s_hash_is_that_of_its_numbers(tiny_directory):
    first, second = (Segmenter(load_directory(tiny_directory), place("cpu")) for _ in range(2))
    assert hash_model(first) == hash_model(second)
    with_one_bit = next(second.model.vision.parameters())
    with_one_bit.data.view(-1)[0] += 1e-6
    assert hash_model(first) != hash_model(second)
