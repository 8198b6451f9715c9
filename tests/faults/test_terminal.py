"""Fault 28: a closed stdout, no terminal, a dumb or narrow one, NO_COLOR, and a locale that is not UTF-8."""

import fcntl
import io
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

SMALL = ["--size", "64", "--device", "cpu"]
COLOUR = re.compile(r"\x1b\[[\d;]*(?:3|4|9|10)[0-8][\d;]*m")
PLAIN_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}

Draw = Callable[..., Path]


def _shown(value: object) -> str:
    return " ".join(value) if isinstance(value, (list, tuple)) else str(value)


class Screen(io.StringIO):
    """What a terminal in this process would show."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def in_terminal(
    clippy_command: list[str], clippy_environment: dict[str, str], tmp_path: Path
) -> Callable[..., tuple[int, str]]:
    """Run the command on a pseudo-terminal of a given width: exit code and everything that arrived there."""

    def run(*args: object, columns: int = 100, **environment: str) -> tuple[int, str]:
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        process = subprocess.Popen(
            [*clippy_command, *map(str, args)],
            cwd=tmp_path,
            env=clippy_environment | {"TERM": "xterm-256color", "COLORTERM": "truecolor"} | environment,
            stdin=slave,
            stdout=slave,
            stderr=slave,
        )
        os.close(slave)
        shown = b""
        while True:
            try:
                chunk = os.read(master, 65536)
            except OSError:  # how Linux says that the last writer has gone
                break
            if not chunk:
                break
            shown += chunk
        os.close(master)
        return process.wait(timeout=60), shown.decode().replace("\r\n", "\n")

    return run


@pytest.fixture
def on_screen(clippy: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, str]]:
    """Run the command in this process as if stdout and stderr were terminals."""

    def run(*args: object, **environment: str) -> tuple[int, str, str]:
        for name, value in ({"TERM": "xterm-256color", "COLORTERM": "truecolor"} | environment).items():
            monkeypatch.setenv(name, value)
        with monkeypatch.context() as patch:
            out, err = Screen(), Screen()
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stderr", err)
            from clippy_cli.main import run as run_line

            return run_line([str(arg) for arg in args]), out.getvalue(), err.getvalue()

    return run


@pytest.fixture
def photos(tmp_path: Path, draw: Draw, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two good pictures and a bad one; the current folder is above them."""
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "b.png"):
        draw(Path("photos", name))
    Path("photos/bad.png").write_text("no picture")
    return Path("photos")


def test_a_terminal_gets_a_bar_that_moves_and_goes_away_colours_and_pictures(in_terminal: Any, photos: Path) -> None:
    code, shown = in_terminal("segment", photos, "-l", "sky,grass", "--show", *SMALL)
    assert code == 3
    assert "Traceback" not in shown
    assert re.search(r"segmenting .*[━╸]", shown)
    assert re.search(r"3/3", shown)
    assert "\x1b[?25h" in shown, "the cursor is given back"
    assert shown.count("▀") > 2 * 100 * 30, "two pictures in half blocks"
    last = shown[shown.rindex("\x1b[?25h") :]
    assert "segmenting" not in last
    assert "2 done · 0 finished before · 1 failed · outputs in clippy-out" in last
    assert re.search(r"photos/bad.png +not a picture", last)


@pytest.mark.parametrize(
    ("args", "code"),
    [(["plugins"], 0), (["models"], 0), (["models", "info", "clippy-lite"], 0), (["--help"], 0), (["plugin"], 2)],
    ids=_shown,
)
@pytest.mark.parametrize(
    ("environment", "columns", "forbidden"),
    [
        pytest.param({"TERM": "dumb"}, 100, re.compile("\x1b"), id="dumb"),
        pytest.param({"NO_COLOR": "1"}, 100, COLOUR, id="NO_COLOR"),
        pytest.param({}, 40, None, id="40 columns"),
    ],
)
def test_a_limited_terminal_gets_plain_text_that_fits(
    in_terminal: Any,
    args: list[str],
    code: int,
    environment: dict[str, str],
    columns: int,
    forbidden: re.Pattern[str] | None,
) -> None:
    done, shown = in_terminal(*args, columns=columns, **environment)
    assert done == code
    assert shown.strip()
    assert "Traceback" not in shown
    if forbidden is not None:
        assert not forbidden.search(shown)
    elif code == 0:
        plain = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", shown)
        assert max(cell_len(line) for line in plain.splitlines()) <= columns


@pytest.mark.parametrize(
    ("environment", "flags", "coloured"),
    [
        pytest.param({}, [], True, id="colours"),
        pytest.param({"TERM": "dumb"}, [], False, id="dumb"),
        pytest.param({"NO_COLOR": "1"}, [], False, id="NO_COLOR"),
        pytest.param({}, ["--no-color"], False, id="--no-color"),
        pytest.param({"COLUMNS": "40"}, [], True, id="40 columns"),
        pytest.param({"COLUMNS": "40", "TERM": "dumb"}, [], False, id="40 columns, dumb"),
    ],
)
def test_a_result_has_colours_and_a_picture_where_the_terminal_has_them(
    on_screen: Any, photos: Path, environment: dict[str, str], flags: list[str], coloured: bool
) -> None:
    code, out, err = on_screen(*flags, "segment", photos / "a.png", "-l", "sky,grass", "--show", *SMALL, **environment)
    assert code == 0
    assert bool(COLOUR.search(out)) is coloured
    assert ("▀" in out) is coloured
    assert ("--show needs a terminal with colours" in err) is not coloured
    if environment.get("TERM") == "dumb":
        assert "\x1b" not in out + err
    plain = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", out)
    assert re.search(r"■ sky", plain)
    width = int(environment.get("COLUMNS", 80))
    assert max(cell_len(line) for line in plain.splitlines()) <= width


@pytest.mark.parametrize("environment", [{"TERM": "dumb"}, {}], ids=["dumb", "capable"])
def test_a_folder_shows_a_bar_only_where_a_line_can_be_redrawn(
    on_screen: Any, photos: Path, environment: dict[str, str]
) -> None:
    code, out, err = on_screen("segment", photos, "-l", "sky,grass", *SMALL, **environment)
    assert code == 3
    assert ("segmenting" in err) is (environment == {})
    assert "segmenting" not in out
    quiet = on_screen("-q", "segment", photos, "-l", "sky,grass", "--overwrite", *SMALL, **environment)
    assert "segmenting" not in quiet[2]


def test_nothing_but_text_goes_to_a_pipe(clippy: Any, photos: Path) -> None:
    done = clippy("segment", photos, "-l", "sky,grass", "--show", *SMALL)
    assert done.code == 3
    assert "\x1b" not in done.out + done.err
    assert "\r" not in done.out + done.err
    assert "segmenting" not in done.err
    assert "▀" not in done.out
    assert done.err.startswith("warning: --show needs a terminal with colours")


def test_colours_asked_for_bring_no_bar_into_a_pipe(clippy: Any, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    done = clippy("segment", photos, "-l", "sky,grass", *SMALL)
    assert done.code == 3
    assert "segmenting" not in done.err
    assert "\x1b[?25l" not in done.err


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["--help"], 0),
        (["segment", "--help"], 0),
        (["plugins"], 0),
        (["plugins", "--json"], 0),
        (["models"], 0),
        (["nonsense"], 2),
    ],
    ids=_shown,
)
@pytest.mark.parametrize("gone", [("stdout",), ("stderr",), ("stdout", "stderr")], ids=_shown)
def test_a_reader_that_has_gone_is_no_reason_to_complain(
    process: Any, args: list[str], code: int, gone: tuple[str, ...]
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    streams = {name: writer if name in gone else subprocess.PIPE for name in ("stdout", "stderr")}
    try:
        done = process(*args, capture_output=False, **streams)
    finally:
        os.close(writer)
    assert done.code == code
    assert "stderr" in gone or done.err == ("" if code == 0 else process(*args).err)


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
@pytest.mark.parametrize(("args", "code"), [("plugins", 0), ("plugins --json", 0), ("nonsense", 2)])
def test_streams_that_were_closed_from_the_start_are_no_reason_to_complain(
    clippy_command: list[str], clippy_environment: dict[str, str], closed: str, args: str, code: int
) -> None:
    line = f"{' '.join(clippy_command)} {args} {closed}"
    done = subprocess.run(["sh", "-c", line], env=clippy_environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert done.stderr == "" or code


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("args", [["plugins"], ["plugins", "--json"], ["--version"], ["--help"]], ids=_shown)
def test_a_full_disk_behind_stdout_is_one_line_and_exit_4(process: Any, args: list[str]) -> None:
    with open("/dev/full", "wb") as full:
        done = process(*args, capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert done.code == 4
    assert re.fullmatch(r"error: .*No space left on device\n", done.err)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize(
    ("args", "code"),
    [
        pytest.param(["segment", "photos/a.png", "-l", "sky", *SMALL], 0, id="one picture"),
        pytest.param(["segment", "photos", "-l", "sky", *SMALL], 3, id="a folder with a bad one"),
        pytest.param(["segment", "photos/bad.png", "-l", "sky", *SMALL], 4, id="a bad one"),
        pytest.param(["segment", "photos/a.png"], 2, id="usage"),
    ],
)
def test_messages_that_cannot_be_written_change_nothing(process: Any, photos: Path, args: list[str], code: int) -> None:
    with open("/dev/full", "wb") as full:
        done = process(*args, capture_output=False, stdout=subprocess.PIPE, stderr=full)
    assert done.code == code
    assert ("sky" in done.out) is (code in (0, 3))


@pytest.mark.parametrize("more", [[], ["--json"]], ids=["table", "json"])
def test_a_folder_run_goes_on_to_its_end_when_its_reader_has_gone(
    clippy: Any, photos: Path, monkeypatch: pytest.MonkeyPatch, more: list[str]
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as nobody, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", nobody)
        done = clippy("segment", photos, "-l", "sky,grass", *SMALL, *more)
    assert done.code == 3
    records = [json.loads(line) for line in Path("clippy-out/manifest.jsonl").read_text().splitlines()]
    assert [record["status"] for record in records] == ["ok", "ok", "failed"]


def test_a_locale_that_is_not_utf_8_gets_text_it_can_show(process: Any, draw: Draw, tmp_path: Path) -> None:
    draw(tmp_path / "Bär.png")
    done = process("segment", "Bär.png", "-l", "犬,sky", *SMALL, env=PLAIN_LOCALE)
    assert done.code == 0
    assert (done.out + done.err).isascii()
    assert re.search(r"# \\u72ac +\| ", done.out)
    assert "# sky" in done.out
    summary = json.loads((tmp_path / "clippy-out/Bär.json").read_text(encoding="utf-8"))
    assert [label["name"] for label in summary["labels"]] == ["犬", "sky"]


@pytest.mark.parametrize(
    ("args", "code", "expected"),
    [
        (["plugins"], 0, "segment"),
        (["segment", "Käse.png", "-l", "犬"], 4, "cannot be read (No such file or directory)"),
        (["säg"], 2, "unknown command"),
        (["--help"], 0, "Usage: clippy"),
    ],
)
def test_messages_in_a_locale_that_is_not_utf_8_are_ascii(
    process: Any, args: list[str], code: int, expected: str
) -> None:
    done = process(*args, env=PLAIN_LOCALE)
    assert done.code == code
    assert (done.out + done.err).isascii()
    assert expected in done.out + done.err
    assert "Traceback" not in done.err


def test_a_label_no_file_can_be_named_after_in_this_locale_is_one_line(
    clippy: Any, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from clippy_core.segmentation.result import Segmentation

    def refuse(*_: object) -> None:
        "photo.mask.000-犬.png".encode("ascii")

    monkeypatch.setattr(Segmentation, "save", refuse)
    done = clippy("segment", photos / "a.png", "-l", "犬", *SMALL)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: 'photo.mask.000-犬.png' is no file name in this locale (ascii); LC_ALL=C.UTF-8")


def test_control_characters_in_names_are_shown_and_not_obeyed(
    clippy: Any, tmp_path: Path, draw: Draw, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a colour, a title nor a line break reaches the terminal; JSON and manifest keep the true name."""
    name, bad = "photos/red\x1b[31m\nline\u202f.png", "photos/title\x1b]0;x\x07.png"
    shown = name.replace("\x1b", r"\x1b").replace("\n", r"\n")
    monkeypatch.chdir(tmp_path)
    draw(Path(name))
    Path(bad).write_text("no picture")

    alone = clippy("segment", name, "-l", "sky", *SMALL)
    assert alone.code == 0
    assert alone.out.splitlines()[0].rstrip() == shown
    assert f"wrote clippy-out/{Path(shown).stem}.overlay.png" in alone.err.splitlines()
    many = clippy("segment", "photos", "-v", "-l", "sky", *SMALL)
    assert many.code == 3
    assert f"ok {shown} (" in many.err
    assert re.search(r"^ *photos/title\\x1b\]0;x\\x07\.png +not a picture", many.err, re.MULTILINE)
    refused = clippy("segment", bad, "-l", "sky", *SMALL)
    assert refused.err.startswith(r"error: photos/title\x1b]0;x\x07.png: not a picture")
    assert "\x1b" not in "".join([*alone[1:], *many[1:], *refused[1:]])

    document = json.loads(clippy("segment", "photos", "-l", "sky", "--json", "--overwrite", *SMALL).out)
    assert [image["image"] for image in document["images"]] == [name, bad]
    lines = Path("clippy-out/manifest.jsonl").read_text().split("\n")[:-1]
    assert [json.loads(line)["input"] for line in lines] == [name, bad]
