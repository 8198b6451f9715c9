"""Where models are kept, and how that place is shared and kept in order."""

import os
import shutil
import subprocess
import sys
import threading
import time
from collections import namedtuple
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clippy_core.errors import DataError, UsageError
from clippy_core.model import cache


@pytest.fixture
def home(monkeypatch, tmp_path):
    """A home folder, and nothing else that says where things are kept."""
    for name in (cache.VARIABLE, "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("platform", "variables", "folder"),
    [
        ("linux", {}, "~/.cache/clippy"),
        ("linux", {"XDG_CACHE_HOME": "/big/cache"}, "/big/cache/clippy"),
        ("linux", {"XDG_CACHE_HOME": "relative"}, "~/.cache/clippy"),
        ("linux", {"XDG_CACHE_HOME": ""}, "~/.cache/clippy"),
        ("linux", {"CLIPPY_CACHE": "/models", "XDG_CACHE_HOME": "/big/cache"}, "/models"),
        ("linux", {"CLIPPY_CACHE": "~/models"}, "~/models"),
        ("linux", {"CLIPPY_CACHE": ""}, "~/.cache/clippy"),
        ("darwin", {}, "~/Library/Caches/clippy"),
        ("darwin", {"XDG_CACHE_HOME": "/big/cache"}, "/big/cache/clippy"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/clippy"),
        ("win32", {}, "~/AppData/Local/clippy"),
        ("win32", {"CLIPPY_CACHE": "/models", "LOCALAPPDATA": "/local"}, "/models"),
    ],
)
def test_the_cache_is_where_the_user_or_the_system_says(home, monkeypatch, platform, variables, folder):
    monkeypatch.setattr(sys, "platform", platform)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cache.cache_folder() == Path(folder.replace("~", str(home)))
    assert list(home.iterdir()) == []


def test_a_relative_cache_means_one_place_wherever_the_process_goes(home, monkeypatch):
    monkeypatch.setenv(cache.VARIABLE, "models")
    monkeypatch.chdir(home)
    assert cache.cache_folder() == home / "models"


@pytest.mark.parametrize("chosen", [None, "~nobody-of-this-name/models"])
def test_without_a_home_it_is_said_what_to_set(home, monkeypatch, chosen):
    def unknown():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", unknown)
    if chosen:
        monkeypatch.setenv(cache.VARIABLE, chosen)
    with pytest.raises(UsageError, match=cache.VARIABLE):
        cache.cache_folder()


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("clippy-B-16", "clippy-B-16"),
        ("somebody/model", "somebody%2Fmodel"),
        ("..", "%2E."),
        (".", "%2E"),
        ("../../evil", "%2E.%2F..%2Fevil"),
        ("C:\\evil", "C%3A%5Cevil"),
        ("two words", "two%20words"),
    ],
)
def test_a_model_has_a_folder_of_its_own_in_the_cache(home, name, folder):
    assert cache.model_folder(name) == home / ".cache" / "clippy" / "models" / folder


@given(st.text(min_size=1), st.text(min_size=1))
def test_no_name_leaves_the_cache_and_no_two_share_a_folder(one, other):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(cache.VARIABLE, "/cache")
        folders = [cache.model_folder(name) for name in (one, other)]
    assert all(folder.parent == Path("/cache/models") for folder in folders)
    assert all(Path(os.path.normpath(folder)) == folder for folder in folders)
    assert (folders[0] == folders[1]) == (one == other)


def test_a_name_in_no_encoding_has_a_folder_too(home):
    assert cache.model_folder(os.fsdecode(b"\xff")).name == "%FF"


def test_an_empty_name_is_refused(home):
    with pytest.raises(UsageError, match="empty"):
        cache.model_folder("")


Usage = namedtuple("Usage", "total used free")


@pytest.mark.parametrize(("needed", "fits"), [(0, True), (1_000_000, True), (1_000_001, False), (-5, True)])
def test_space_is_looked_for_where_the_folder_will_be(tmp_path, monkeypatch, needed, fits):
    asked = []
    monkeypatch.setattr(shutil, "disk_usage", lambda path: asked.append(path) or Usage(2_000_000, 1_000_000, 1_000_000))
    folder = tmp_path / "not" / "made" / "yet"
    if fits:
        cache.require_space(folder, needed, "weights")
    else:
        with pytest.raises(DataError, match=r"^weights: 1\.0 MB needed, but only 1\.0 MB free in .*CLIPPY_CACHE"):
            cache.require_space(folder, needed, "weights")
    assert asked == [tmp_path]
    assert list(tmp_path.iterdir()) == []


def test_the_real_disk_has_room_for_a_byte_and_not_for_everything(tmp_path):
    cache.require_space(tmp_path, 1, "weights")
    with pytest.raises(DataError):
        cache.require_space(tmp_path, 1 << 62, "weights")


def test_only_one_at_a_time_holds_a_lock_and_no_file_of_it_stays(tmp_path):
    target = tmp_path / "weights.bin"
    inside, most, rounds = [], [], []

    def work():
        for _ in range(20):
            with cache.locked(target):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0)
                inside.pop()
                rounds.append(1)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (max(most), len(rounds)) == (1, 60)
    assert list(tmp_path.iterdir()) == []


HOLD = """
import sys
from pathlib import Path
from clippy_core.model.cache import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path, clippy_environment):
    """Another process that holds the lock of ``weights.bin`` until its input ends."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "weights.bin")]
    with subprocess.Popen(command, env=clippy_environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        yield process
        process.kill()


@pytest.mark.parametrize("end", ["closes", "is killed"])
def test_who_waits_is_told_so_and_goes_on_when_the_other_ends(tmp_path, holder, monkeypatch, end):
    monkeypatch.setattr(cache, "WAIT", 0.01)
    waited = []

    def waiting():
        waited.append(1)
        if len(waited) == 2:
            holder.stdin.close() if end == "closes" else holder.kill()

    with cache.locked(tmp_path / "weights.bin", waiting):
        assert len(waited) >= 2
    assert list(tmp_path.iterdir()) == []


def test_who_waits_may_give_up(tmp_path, holder, monkeypatch):
    def give_up():
        raise KeyboardInterrupt

    monkeypatch.setattr(cache, "WAIT", 0.01)
    with pytest.raises(KeyboardInterrupt), cache.locked(tmp_path / "weights.bin", give_up):
        raise AssertionError("held by two")
    assert [path.name for path in tmp_path.iterdir()] == ["weights.bin.lock"]


def test_an_error_inside_lets_go_of_the_lock(tmp_path):
    with pytest.raises(ValueError, match="mine"), cache.locked(tmp_path / "weights.bin"):
        raise ValueError("mine")
    assert list(tmp_path.iterdir()) == []


def old(path, days=20.0):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"beginning")
    os.utime(path, (time.time() - days * 86400,) * 2)
    return path


def test_partial_downloads_that_nobody_continues_are_deleted(tmp_path):
    for name in ("a/x.bin.part", "a/x.bin.part.json", "b/y.bin.part", "b/z.bin.part.json"):
        old(tmp_path / name)
    stay = [
        old(tmp_path / "a/x.bin"),
        old(tmp_path / "a/x.bin.sha256"),
        old(tmp_path / "b/fresh.bin.part", days=13),
        old(tmp_path / "b/fresh.bin.part.json"),
        old(tmp_path / ".part"),
        old(tmp_path / "c/department"),
    ]
    assert cache.remove_stale_parts(tmp_path) == 3
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(stay)


def test_what_another_process_holds_or_cannot_be_deleted_stays(tmp_path, holder, monkeypatch):
    monkeypatch.setattr(cache, "WAIT", 0.01)
    held = old(tmp_path / "weights.bin.part")
    folder = old(tmp_path / "folder.part" / "file").parent
    os.utime(folder, (0, 0))
    assert cache.remove_stale_parts(tmp_path) == 0
    assert held.exists()
    assert folder.exists()


def test_a_cache_that_is_not_there_has_nothing_to_delete(tmp_path):
    assert cache.remove_stale_parts(tmp_path / "none") == 0


@pytest.mark.parametrize(("count", "text"), [(0, "0.0 MB"), (812_345_678, "812.3 MB"), (3_000_000_000, "3,000.0 MB")])
def test_sizes_are_told_in_millions_of_bytes(count, text):
    assert cache.in_megabytes(count) == text
