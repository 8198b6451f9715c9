"""Words that were embedded before: the same numbers as without the cache, whatever happens to its files."""

import os
import subprocess
import sys

import numpy as np
import pytest

from clippy_core.model import cache, embedding_cache
from clippy_core.model.embedding_cache import EmbeddingCache, embed_words

TEMPLATES = ("{}", "a photo of a {}.")
ROOM_FOR_10 = 10 * (4 * 5 + 20)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("CLIPPY_CACHE", str(tmp_path))
    monkeypatch.delenv("CLIPPY_LABEL_CACHE", raising=False)
    return tmp_path / "labels"


class Model:
    """Gives every word a vector of its own, and remembers what it was asked for."""

    def __init__(self, width=5):
        self.width, self.asked = width, []

    def __call__(self, words):
        self.asked.append(list(words))
        seeds = [sum(map(ord, word)) for word in words]
        return np.stack([np.random.default_rng(seed).standard_normal(self.width, np.float32) for seed in seeds])

    def embed(self, words, *, templates=TEMPLATES, identity="model", apart=True):
        return embed_words(words, templates, self, identity=identity, apart=apart)


def test_known_words_are_not_computed_again_and_keep_every_bit():
    first, second = Model(), Model()
    words = ["dog", "grass", "naïve 犬"]
    assert np.array_equal(first.embed(words), first(words))
    assert np.array_equal(second.embed(words[::-1]), first(words)[::-1])
    assert second.asked == []


def test_only_the_words_that_are_missing_are_computed():
    Model().embed(["dog", "grass"])
    model = Model()
    found = model.embed(["sky", "dog", "sea"])
    assert model.asked == [["sky", "sea"]]
    assert np.array_equal(found, Model()(["sky", "dog", "sea"]))


def test_words_that_depend_on_each_other_are_kept_for_their_own_list_only():
    Model().embed(["dog", "grass"], apart=False)
    model = Model()
    model.embed(["dog", "grass"], apart=False)
    assert model.asked == []
    model.embed(["dog"], apart=False)
    model.embed(["grass", "dog"], apart=False)
    assert model.asked == [["dog"], ["grass", "dog"]]


@pytest.mark.parametrize(
    "changed", [{"identity": "other"}, {"templates": TEMPLATES[:1]}, {"templates": TEMPLATES[::-1]}]
)
def test_another_model_or_other_templates_are_told_apart(changed):
    Model().embed(["dog"])
    model = Model()
    model.embed(["dog"], **changed)
    assert model.asked == [["dog"]]


def test_many_words_are_one_file(folder):
    model = Model()
    for number in range(20):
        model.embed([f"word {number}"])
    assert len(list(folder.iterdir())) == 1


def damaged(data):
    half = len(data) // 2
    yield "empty", b""
    yield "cut in its head", data[:10]
    yield "cut in its records", data[:50]
    yield "cut in its vectors", data[:-3]
    yield "another file", b"#!/bin/sh\n" * 40
    yield "a flipped bit in the records", data[:34] + bytes([data[34] ^ 1]) + data[35:]
    yield "a flipped bit in the vectors", data[:-1] + bytes([data[-1] ^ 1])
    yield "its second half lost", data[:half] + b"\0" * (len(data) - half)


def test_damage_costs_time_and_nothing_else(folder):
    words = ["dog", "grass", "sky"]
    Model().embed(words)
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    for kind, data in damaged(whole):
        path.write_bytes(data)
        model = Model()
        assert np.array_equal(model.embed(words), model(words)), kind
        assert len(model.asked) == 2, f"{kind}: not noticed"
        again = Model()
        again.embed(words)
        assert again.asked == [], f"{kind}: not repaired"


def test_a_file_grows_to_its_limit_and_the_oldest_words_go(folder, monkeypatch):
    monkeypatch.setattr(embedding_cache, "MOST_BYTES", ROOM_FOR_10)
    for number in range(25):
        Model().embed([f"word {number}"])
    (path,) = folder.iterdir()
    assert path.stat().st_size < ROOM_FOR_10 + 100
    model = Model()
    model.embed(["word 24", "word 15", "word 14"])
    assert model.asked == [["word 14"]]


def test_more_words_than_fit_are_still_right(monkeypatch):
    monkeypatch.setattr(embedding_cache, "MOST_BYTES", 100)
    model = Model()
    words = [f"word {number}" for number in range(50)]
    assert np.array_equal(model.embed(words), model(words))


def test_a_set_of_words_larger_than_the_limit_is_computed_once(folder, monkeypatch):
    monkeypatch.setattr(embedding_cache, "MOST_BYTES", ROOM_FOR_10)
    words = [f"word {number}" for number in range(25)]
    Model().embed(words)
    again = Model()
    assert np.array_equal(again.embed(words), Model()(words))
    assert again.asked == []
    Model().embed(["another"])  # takes the place of one word, not of all that are beyond the limit
    later = Model()
    later.embed(words)
    assert [len(asked) for asked in later.asked] == [1]
    (path,) = folder.iterdir()
    assert path.stat().st_size < 2.6 * ROOM_FOR_10


def test_words_that_are_asked_for_again_are_not_the_oldest(monkeypatch):
    monkeypatch.setattr(embedding_cache, "MOST_BYTES", ROOM_FOR_10)
    Model().embed([f"word {number}" for number in range(10)])
    Model().embed(["word 0", "new"])
    model = Model()
    model.embed(["word 0", "new", "word 1"])
    assert model.asked == [["word 1"]]


def test_a_set_too_large_for_the_folder_keeps_the_same_words_every_time(folder, monkeypatch):
    monkeypatch.setattr(embedding_cache, "MOST_BYTES", ROOM_FOR_10)
    monkeypatch.setattr(embedding_cache, "MOST_IN_ALL", 2 * ROOM_FOR_10)
    words = [f"word {number}" for number in range(25)]
    Model().embed(words)
    (path,) = folder.iterdir()
    before = path.stat().st_ino
    for _ in range(2):
        model = Model()
        assert np.array_equal(model.embed(words), Model()(words))
        assert model.asked == [words[20:]]
    assert path.stat().st_ino == before, "nothing was written in vain"


def test_the_folder_keeps_the_files_used_last(folder, monkeypatch):
    Model().embed(["dog"], identity="0")
    (oldest,) = folder.iterdir()
    monkeypatch.setattr(embedding_cache, "MOST_IN_ALL", 3 * oldest.stat().st_size)
    os.utime(oldest, (1, 1))
    for identity in "12":
        Model().embed(["dog"], identity=identity)
    Model().embed(["dog"], identity="0")  # used again
    (unused,) = [path for path in folder.iterdir() if path != oldest][:1]
    os.utime(unused, (2, 2))
    Model().embed(["dog"], identity="3")
    assert len(list(folder.iterdir())) == 3
    assert oldest.exists()
    assert not unused.exists()


def test_what_a_killed_process_left_is_tidied_up(folder):
    folder.mkdir()
    (folder / ".clippy-tmp-dead").write_bytes(b"half")
    Model().embed(["dog"])
    assert not (folder / ".clippy-tmp-dead").exists()


def test_a_model_of_another_width_replaces_what_does_not_fit(folder):
    Model(5).embed(["dog"])
    (path,) = folder.iterdir()
    EmbeddingCache(path).add({b"x" * 16: np.ones(7, np.float32)})
    assert [len(vector) for vector in EmbeddingCache(path)._everything().values()] == [7]


def test_it_can_be_switched_off(folder, monkeypatch):
    monkeypatch.setenv("CLIPPY_LABEL_CACHE", "0")
    model = Model()
    model.embed(["dog"])
    model.embed(["dog"])
    assert len(model.asked) == 2
    assert not folder.exists()


def test_a_folder_that_cannot_be_made_keeps_nobody_from_working(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CLIPPY_CACHE", str(tmp_path / "file"))
    model = Model()
    assert np.array_equal(model.embed(["dog"]), model(["dog"]))


def test_without_a_home_there_is_no_cache(monkeypatch):
    def homeless():
        raise RuntimeError

    monkeypatch.delenv("CLIPPY_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(cache.Path, "home", homeless)
    model = Model()
    assert np.array_equal(model.embed(["dog"]), model(["dog"]))


def test_somebody_else_at_work_is_not_waited_for_long(folder, monkeypatch):
    monkeypatch.setattr(embedding_cache, "PATIENCE", 0.0)
    folder.mkdir()
    with cache.locked(folder / "labels"):
        model = Model()
        assert np.array_equal(model.embed(["dog"]), model(["dog"]))
    assert list(folder.iterdir()) == []


WRITER = """
import sys
import numpy as np
from clippy_core.model.embedding_cache import embed_words
for number in range(8):
    word = f"{sys.argv[1]} {number}"
    embed_words([word], ("{}",), lambda words: np.full((len(words), 300), hash(word) % 97, np.float32),
                identity="m", apart=True)
"""


def test_several_processes_lose_nothing(clippy_environment, folder):
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, name],
            env=clippy_environment | {"CLIPPY_CACHE": str(folder.parent), "CLIPPY_LABEL_CACHE": "1"},
        )
        for name in ("a", "b", "c")
    ]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0, 0]
    model = Model(300)
    model.embed([f"{name} {number}" for name in "abc" for number in range(8)], templates=("{}",), identity="m")
    assert model.asked == []
