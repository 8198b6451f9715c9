"""Fault 26: inputs that vanish, that may not be read, and links that lead nowhere or in circles.

Each is one failed line in the manifest and in the closing table; the rest is done.
"""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SMALL = ["--size", "64", "--device", "cpu", "--save", "labelmap"]
GOOD = {"photos/a.png", "photos/z.png"}


def _may_read_everything() -> bool:
    with tempfile.TemporaryDirectory() as folder:
        closed = Path(folder, "closed")
        closed.touch(mode=0o000)
        return os.access(closed, os.R_OK)


needs_permissions = pytest.mark.skipif(_may_read_everything(), reason="this user may read everything")


def _dangling() -> None:
    Path("photos/m.png").symlink_to("gone.png")


def _link_to_itself() -> None:
    Path("photos/m.png").symlink_to("m.png")


def _links_in_a_circle() -> None:
    Path("photos/m.png").symlink_to("n.link")
    Path("photos/n.link").symlink_to("m.png")


def _link_to_a_folder_as_picture() -> None:
    Path("other").mkdir()
    Path("other/m.jpg").write_text("not a picture")
    Path("photos/m.png").symlink_to("../other")


def _unreadable() -> None:
    Path("photos/m.png").touch(mode=0o000)


def _pipe() -> None:
    os.mkfifo("photos/m.png")


@pytest.fixture(autouse=True)
def photos(tmp_path: Path, draw: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Good pictures before and after the place of the bad one."""
    monkeypatch.chdir(tmp_path)
    for name in sorted(GOOD):
        draw(Path(name))


def _manifest() -> dict[str, dict[str, Any]]:
    lines = Path("clippy-out/manifest.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    assert len({record["input"] for record in records}) == len(records), "one line an input"
    return {record["input"]: record for record in records}


def _assert_one_failed(done: Any, source: str, reason: str) -> None:
    assert done.code == 3
    assert "Traceback" not in done.err
    records = _manifest()
    assert {name for name, record in records.items() if record["status"] == "ok"} == GOOD
    failed = [record for record in records.values() if record["status"] == "failed"]
    assert [record["input"] for record in failed] == [source]
    assert re.search(reason, failed[0]["error"])
    assert "\n" not in failed[0]["error"]
    assert failed[0]["outputs"] == []
    assert re.search(rf"^ *{re.escape(source)} +.*{reason}", done.err, re.MULTILINE)
    assert {path.name for path in Path("clippy-out").rglob("*.png")} == {"a.labels.png", "z.labels.png"}


@pytest.mark.parametrize(
    ("spoil", "source", "reason"),
    [
        pytest.param(_dangling, "photos/m.png", "No such file or directory", id="dangling link"),
        pytest.param(_link_to_itself, "photos/m.png", "Too many levels of symbolic links", id="link to itself"),
        pytest.param(_links_in_a_circle, "photos/m.png", "Too many levels of symbolic links", id="links in a circle"),
        pytest.param(_link_to_a_folder_as_picture, "photos/m.png/m.jpg", "not a picture", id="link to a folder"),
        pytest.param(_unreadable, "photos/m.png", "Permission denied", id="unreadable", marks=needs_permissions),
        pytest.param(_pipe, "photos/m.png", "not a regular file", id="named pipe that nobody writes"),
    ],
)
def test_a_bad_input_is_one_failed_line_and_the_rest_is_done(
    clippy: Any, spoil: Callable[[], None], source: str, reason: str
) -> None:
    spoil()
    _assert_one_failed(clippy("segment", "photos", "-l", "sky,grass", *SMALL), source, reason)


@pytest.mark.parametrize("spoil", [_dangling, _link_to_itself, _pipe])
def test_a_bad_input_named_by_itself_is_one_line_and_exit_4(clippy: Any, spoil: Callable[[], None]) -> None:
    spoil()
    done = clippy("segment", "photos/m.png", "-l", "sky", *SMALL)
    assert (done.code, done.out) == (4, "")
    assert re.fullmatch(
        r"error: photos/m.png: .*(No such file|levels of symbolic links|not a regular file).*\n", done.err
    )


def test_a_file_that_is_deleted_after_it_was_found_fails_alone(
    clippy: Any, monkeypatch: pytest.MonkeyPatch, draw: Callable[..., Path]
) -> None:
    draw(Path("photos/m.png"))
    _after_listing(monkeypatch, lambda: Path("photos/m.png").unlink())
    done = clippy("segment", "photos", "-l", "sky,grass", *SMALL)
    _assert_one_failed(done, "photos/m.png", "No such file or directory")


def test_a_file_that_is_cut_after_it_was_found_fails_alone(
    clippy: Any, monkeypatch: pytest.MonkeyPatch, draw: Callable[..., Path]
) -> None:
    draw(Path("photos/m.png"), (300, 200))
    _after_listing(monkeypatch, lambda: os.truncate("photos/m.png", 200))
    done = clippy("segment", "photos", "-l", "sky,grass", *SMALL)
    _assert_one_failed(done, "photos/m.png", "damaged or truncated")


def test_a_folder_that_is_taken_away_after_it_was_found_fails_line_by_line(
    clippy: Any, monkeypatch: pytest.MonkeyPatch, draw: Callable[..., Path]
) -> None:
    inside = [f"photos/stick/{number}.png" for number in range(3)]
    for name in inside:
        draw(Path(name))
    _after_listing(monkeypatch, lambda: shutil.rmtree("photos/stick"))
    done = clippy("segment", "photos", "-l", "sky,grass", *SMALL)
    assert done.code == 3
    records = _manifest()
    assert [name for name, record in records.items() if record["status"] == "failed"] == inside
    assert {name for name, record in records.items() if record["status"] == "ok"} == GOOD


def test_what_was_plugged_in_again_is_done_by_the_same_command(clippy: Any, draw: Callable[..., Path]) -> None:
    _dangling()
    command = ["segment", "photos", "-l", "sky,grass", *SMALL]
    assert clippy(*command).code == 3
    before = Path("clippy-out/a.labels.png").stat().st_mtime_ns
    draw(Path("photos/gone.png"))
    again = clippy(*command)
    assert again.code == 0
    assert {record["status"] for record in _manifest().values()} == {"ok"}
    assert Path("clippy-out/a.labels.png").stat().st_mtime_ns == before


def test_a_folder_that_contains_itself_by_a_link_ends(clippy: Any) -> None:
    Path("photos/deeper").mkdir()
    Path("photos/deeper/up").symlink_to("../..", target_is_directory=True)
    Path("photos/loop").symlink_to("loop")
    done = clippy("segment", "photos", "-l", "sky,grass", *SMALL)
    assert done.code == 0
    assert set(_manifest()) >= GOOD


@needs_permissions
def test_a_folder_that_may_not_be_entered_is_one_failed_line(clippy: Any) -> None:
    Path("photos/locked").mkdir(mode=0o000)
    try:
        done = clippy("segment", "photos", "-l", "sky,grass", *SMALL)
    finally:
        Path("photos/locked").chmod(0o700)
    _assert_one_failed(done, "photos/locked", "a folder that cannot be opened .Permission denied.")


def _after_listing(monkeypatch: pytest.MonkeyPatch, happen: Callable[[], object]) -> None:
    """Let something happen between finding the inputs and reading them."""
    from clippy_core.segmentation import inputs

    find = inputs.find_inputs

    def find_and_lose(*args: Any) -> Any:
        found = find(*args)
        happen()
        return found

    monkeypatch.setattr(inputs, "find_inputs", find_and_lose)
