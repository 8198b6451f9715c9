"""A file is written whole or not at all, and an old one survives whatever goes wrong with the new one."""

import errno
import json
import os
import stat
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clippy_core.errors import DataError
from clippy_core.files import (
    TEMPORARY_PREFIX,
    atomic_write,
    refuse_foreign,
    remove_leftovers,
    to_json,
    write_bytes,
    write_json,
)


@pytest.fixture
def old(tmp_path):
    """A file that is there already."""
    path = tmp_path / "result.json"
    path.write_bytes(b"old")
    return path


def assert_untouched(old):
    assert old.read_bytes() == b"old"
    assert [path.name for path in old.parent.iterdir()] == [old.name]


def test_a_new_file_appears_with_its_folders(tmp_path):
    path = tmp_path / "a" / "b" / "file.bin"
    write_bytes(path, b"\0\xff")
    assert path.read_bytes() == b"\0\xff"
    assert list(path.parent.iterdir()) == [path]


def test_an_old_file_is_replaced(old):
    write_bytes(str(old), b"new")
    assert old.read_bytes() == b"new"
    assert list(old.parent.iterdir()) == [old]


def test_nothing_is_seen_under_the_name_before_the_end(old):
    with atomic_write(old) as file:
        file.write(b"new")
        file.flush()
        assert old.read_bytes() == b"old"
    assert old.read_bytes() == b"new"


@pytest.mark.parametrize(
    "error", [ValueError("mine"), KeyboardInterrupt(), SystemExit(3), OSError(errno.ENOSPC, "full")]
)
def test_an_exception_in_the_block_keeps_the_old_file(old, error):
    def write():
        with atomic_write(old) as file:
            file.write(b"half")
            raise error

    with pytest.raises(type(error)) as caught:
        write()
    assert caught.value is error
    assert_untouched(old)


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_full_disk_at_the_last_moment_keeps_the_old_file(monkeypatch, old, failing):
    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, failing, full)
    with pytest.raises(OSError, match="No space left"):
        write_bytes(old, b"new")
    assert_untouched(old)


@pytest.mark.parametrize("failing", ["fsync", "replace", "open"])
def test_an_error_names_the_file_that_was_to_be_written(monkeypatch, old, failing):
    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), *(map(str, arguments) if failing == "replace" else ()))

    if failing == "open":
        old = old.parent / "f" / "result.json"
        old.parent.mkdir()
        old.parent.chmod(0o500)
        if os.access(old.parent, os.W_OK):
            pytest.skip("this user may write everywhere")
    else:
        monkeypatch.setattr(os, failing, full)
    with pytest.raises(OSError, match=r"result\.json") as caught:
        write_bytes(old, b"new")
    assert (caught.value.filename, caught.value.filename2) == (str(old), None)


WRITE_TOO_MUCH = """
import resource, signal, sys
from clippy_core.files import write_bytes
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
write_bytes(sys.argv[1], b"x" * 99_999)
try:
    write_bytes(sys.argv[1], b"y" * 300_000)
except OSError as error:
    print(type(error).__name__, error.errno)
"""


def test_a_real_file_size_limit_keeps_the_old_file(old):
    done = subprocess.run([sys.executable, "-c", WRITE_TOO_MUCH, str(old)], capture_output=True, text=True, check=True)
    assert done.stdout == f"OSError {errno.EFBIG}\n"
    assert old.read_bytes() == b"x" * 99_999
    assert [path.name for path in old.parent.iterdir()] == [old.name]


def test_the_data_is_on_disk_before_the_name_is_taken(monkeypatch, old):
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda number: (calls.append("fsync"), fsync(number)))
    monkeypatch.setattr(os, "replace", lambda *names: (calls.append("replace"), replace(*names)))
    write_bytes(old, b"new")
    assert calls == ["fsync", "replace"]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_permissions_follow_the_umask(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        write_bytes(tmp_path / "file", b"")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == mode


def test_a_folder_in_the_way_is_an_error_and_stays(tmp_path):
    (tmp_path / "name").mkdir()
    with pytest.raises(OSError, match="name"):
        write_bytes(tmp_path / "name", b"data")
    assert [path.name for path in tmp_path.iterdir()] == ["name"]


def test_a_file_where_a_folder_is_needed_is_an_error(tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(OSError, match="file"):
        write_bytes(tmp_path / "file" / "below", b"data")
    assert (tmp_path / "file").read_bytes() == b"old"


def test_two_writers_of_one_name_leave_one_whole_file(tmp_path):
    path = tmp_path / "file"
    with atomic_write(path) as first, atomic_write(path) as second:
        first.write(b"first")
        second.write(b"second")
    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]


def test_leftovers_of_a_killed_run_are_removed_and_counted(tmp_path):
    kept = [tmp_path / "photo.json", tmp_path / "clippy-tmp-mine", tmp_path / "below" / f"{TEMPORARY_PREFIX}x"]
    kept[2].parent.mkdir()
    for path in (*kept, tmp_path / f"{TEMPORARY_PREFIX}a", tmp_path / f"{TEMPORARY_PREFIX}b"):
        path.write_bytes(b"half")
    assert remove_leftovers(tmp_path) == 2
    assert all(path.exists() for path in kept)
    assert remove_leftovers(tmp_path) == 0
    assert remove_leftovers(tmp_path / "missing") == 0


def test_json_is_readable_utf_8(tmp_path):
    write_json(tmp_path / "a.json", {"name": "żółw 🐢", "list": [1, None]})
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert text == '{\n  "name": "żółw 🐢",\n  "list": [\n    1,\n    null\n  ]\n}\n'


def test_a_file_name_that_is_not_utf_8_survives_json(tmp_path):
    name = os.fsdecode(b"caf\xe9.jpg")
    write_json(tmp_path / "a.json", {"image": name})
    document = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert os.fsencode(document["image"]) == b"caf\xe9.jpg"


# What os.fsdecode makes of any file name: text, and lone surrogates for bytes that are not UTF-8.
NAMES = st.binary().map(os.fsdecode)


@given(st.one_of(st.text(), NAMES))
def test_any_text_and_any_file_name_survive_json(text):
    line = to_json([text])
    assert line.count(b"\n") == 1
    assert json.loads(line.decode()) == [text]


def test_a_file_of_somebody_else_is_told_by_its_beginning(tmp_path):
    path = tmp_path / "a.json"
    refuse_foreign(path, [b"model"])
    path.write_bytes(b"")
    refuse_foreign(path, [b"model"])
    path.write_bytes(b'{"image": "a.jpg", "model": "x"}')
    refuse_foreign(path, [b"image", b"model"])
    refuse_foreign(path, [b"rows"], [b"model"])
    path.write_bytes(b'{"imagePath": "a.jpg"}')
    with pytest.raises(DataError, match=r"a\.json: is there already, and not by clippy; move it away, or give another"):
        refuse_foreign(path, [b"rows"], [b"image", b"model"])
    refuse_foreign(tmp_path, [b"a folder is another error"])
