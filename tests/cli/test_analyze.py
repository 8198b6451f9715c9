"""``clippy analyze features``, ``group`` and ``pooling``."""

import contextlib
import json
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clippy_cli.commands.analyze import parse_points, parse_segments
from clippy_core.errors import UsageError

SMALL = ["--size", "64"]
KINDS = ("features", "group", "pooling")
PARTIAL, USAGE, DATA, MISSING = 3, 2, 4, 5

Draw = Callable[..., Path]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def meadows(draw: Draw) -> Path:
    """Three pictures of a meadow under a sky, with masks and, as objects, the meadow and a hill."""
    for number in range(3):
        draw(Path(f"meadows/images/{number}.png"), size=(120 + 20 * number, 80))
        mask_HW = np.zeros((80, 120 + 20 * number), np.uint8)
        mask_HW[40:] = 1
        objects_HW = mask_HW.copy()
        objects_HW[27:72, 40:60] = 2
        for kind, array in (("masks", mask_HW), ("instances", objects_HW)):
            Path(f"meadows/{kind}").mkdir(exist_ok=True)
            Image.fromarray(array).save(f"meadows/{kind}/{number}.png")
    Path("meadows/labels.txt").write_text("sky\ngrass|lawn\n")
    return Path("meadows")


@pytest.mark.parametrize("kind", KINDS)
def test_writes_a_report_with_pictures_and_numbers(clippy: Any, draw: Draw, kind: str) -> None:
    draw(Path("in/a.png"))
    draw(Path("in/deep/b.jpg"))
    done = clippy("analyze", kind, "in", "--labels", "sky,grass", "--out", "out", *SMALL)
    assert done.code == 0, done.err
    document = json.loads(Path(f"out/{kind}.json").read_text())
    assert done.err == f"wrote {len(document['files'])} files; open out/report.html\n"
    assert sorted(document["files"]) == sorted(
        path.relative_to("out").as_posix() for path in Path("out").rglob("*") if path.is_file()
    )
    assert {"a.picture.png", "deep/b.picture.png", f"{kind}.overview.png"} <= set(document["files"])
    assert [one["picture"] for one in document["numbers"]["pictures"]] == ["in/a.png", "in/deep/b.jpg"]
    assert document["settings"]["model"] == "clippy-lite"
    assert document["settings"]["size"] == 64
    assert "in/deep/b.jpg" in done.out
    page = Path("out/report.html").read_text(encoding="utf-8")
    assert page.count("<img ") == len(document["files"]) - 2
    assert "in/deep/b.jpg" in page


@pytest.mark.parametrize("kind", KINDS)
def test_prints_the_document_that_it_writes(clippy: Any, draw: Draw, kind: str) -> None:
    more = ["--no-map"] if kind == "features" else []
    done = clippy("analyze", kind, draw(Path("a.png")), "--json", "--out", "out", *more, *SMALL)
    assert done.code == 0, done.err
    assert json.loads(done.out) == json.loads(Path(f"out/{kind}.json").read_text())


@pytest.mark.parametrize("kind", KINDS)
def test_bad_pictures_are_a_line_each(clippy: Any, draw: Draw, kind: str) -> None:
    draw(Path("in/good.png"))
    Path("in/broken.png").write_bytes(b"\x89PNG\r\n\x1a\nrubbish")
    Path("in/empty.jpg").write_bytes(b"")
    done = clippy("analyze", kind, "in", "--out", "out", *SMALL)
    assert done.code == PARTIAL
    lines = done.err.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("warning: left out: in/broken.png: ")
    assert lines[1] == "warning: left out: in/empty.jpg: the file is empty"
    left_out = json.loads(Path(f"out/{kind}.json").read_text())["numbers"]["left out"]
    assert [item["picture"] for item in left_out] == ["in/broken.png", "in/empty.jpg"]
    assert "the file is empty" in Path("out/report.html").read_text()


@pytest.mark.parametrize("kind", KINDS)
def test_no_usable_picture_at_all(clippy: Any, kind: str) -> None:
    Path("in").mkdir()
    for name in ("a.png", "b.png"):
        Path("in", name).write_bytes(b"")
    done = clippy("analyze", kind, "in", "--out", "out", *SMALL)
    assert done.code == DATA
    assert done.err == "error: in/a.png: the file is empty; 1 more could not be used either\n"
    assert done.out == ""
    assert not Path("out/report.html").exists()


def test_lists_and_shards_are_inputs_and_videos_are_not(clippy: Any, draw: Draw) -> None:
    for name in ("a.png", "b.png"):
        draw(Path(name))
    Path("list.txt").write_text("a.png\n")
    with tarfile.open("shard.tar", "w") as shard:
        shard.add("b.png")
    done = clippy("analyze", "pooling", "list.txt", "shard.tar", "--json", "--out", "out", *SMALL)
    assert [one["picture"] for one in json.loads(done.out)["numbers"]["pictures"]] == ["a.png", "shard.tar/b.png"]
    Path("film.mp4").write_bytes(b"")
    done = clippy("analyze", "pooling", "film.mp4", "--out", "out", *SMALL)
    assert (done.code, done.err) == (DATA, "error: film.mp4: a video; accepted: pictures\n")
    said = " ".join(clippy("analyze", "pooling", "-h").out.replace("│", " ").split())
    assert "lists (.txt, @FILE), shards (.tar), or - for standard input; no videos." in said


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["features"], USAGE, "missing argument 'IMAGES'"),
        (["group"], USAGE, "no input was given"),
        (["features", "a.png", "--point", "7"], USAGE, "--point is '7'; accepted: X,Y in pixels, such as 120,80"),
        (["features", "a.png", "--point", "500,2"], USAGE, "--point 500,2 is not on a.png; accepted: x below 120 and"),
        (["features", "a.png", "--labels", "a,a"], USAGE, "label 'a' is repeated"),
        (["pooling", "a.png", "--labels", "a", "--labels-file", "l.txt"], USAGE, "accepted: one of them"),
        (["pooling", "a.png", "--size", "3"], USAGE, "--size is 3; accepted:"),
        (["group", "a.png", "--labels", "a", "--name-from", "l.txt"], USAGE, "accepted: one of them"),
        (
            ["group", "a.png", "--segments", "many"],
            USAGE,
            "--segments is 'many'; accepted: a whole number from 2 to 64",
        ),
        (["group", "a.png", "--segments", "1"], USAGE, "--segments is 1; accepted: 2 to 64, or auto"),
        (["group", "a.png", "--method", "som"], USAGE, "--method is 'som'; accepted: pca, kmeans, spectral"),
        (["group", "a.png", "--seed", "-1"], USAGE, "--seed is -1; accepted: 0 or more"),
        (["group", "a.png", "--masks", "nowhere"], DATA, "nowhere: no such folder; one laid out as a labelled folder"),
        (["group", "a.png", "--name-from", "none.txt"], DATA, "none.txt"),
        (["features", "gone.png"], DATA, "gone.png"),
        (["features", "empty"], DATA, "empty: no picture in this folder"),
        (["pooling", "a.png", "--model", "clippy-light"], USAGE, "unknown model 'clippy-light'"),
        (["pooling", "a.png", "--out", "a.png"], USAGE, "--out a.png: a.png is a file"),
    ],
)
def test_mistakes_are_one_line(clippy: Any, draw: Draw, args: list[str], code: int, words: str) -> None:
    draw(Path("a.png"))
    Path("empty").mkdir()
    Path("l.txt").write_text("a\n")
    done = clippy("analyze", *args)
    assert (done.code, done.out) == (code, "")
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    assert words in done.err


@pytest.mark.parametrize("method", ["pca", "spectral"])
def test_js_is_that_of_clippy_eval(clippy: Any, meadows: Path, method: str) -> None:
    ours = clippy(
        "analyze", "group", "--masks", meadows, "--method", method, "--segments", "4", "--json", "--out", "o", *SMALL
    )
    assert ours.code == 0, ours.err
    theirs = clippy(
        "eval", "folder", "--data", meadows, "--metric", "bottom-up", "--grouping", method, "--groups", "4", "--json",
        "--out", "e", *SMALL,
    )  # fmt: skip
    assert theirs.code == 0, theirs.err
    numbers, metrics = json.loads(ours.out)["numbers"], json.loads(theirs.out)["metrics"]
    assert numbers["objects"] == metrics["objects"] == 6
    assert numbers["JS"] == pytest.approx(metrics["JS"], rel=1e-8)  # the document has nine digits
    assert 0 < numbers["JS"] < 1


def test_segments_get_names_from_a_file(clippy: Any, meadows: Path) -> None:
    Path("words.txt").write_text("sky\ngrass|lawn\ntable\n")
    done = clippy(
        "analyze", "group", meadows / "images/0.png", "--segments", "auto", "--name-from", "words.txt", "--json",
        "--out", "o", *SMALL,
    )  # fmt: skip
    assert done.code == 0, done.err
    found = json.loads(done.out)["numbers"]["pictures"][0]
    assert {name for segment in found["segments"] for name in segment["names"]} == {"sky", "grass", "table"}
    assert 2 <= len(found["segments"]) <= 12
    assert set(found["silhouette by number"]) <= {str(number) for number in range(2, 13)}


def test_points_are_asked_about_in_every_picture(clippy: Any, draw: Draw) -> None:
    draw(Path("in/a.png"))
    draw(Path("in/b.png"), size=(80, 80))
    done = clippy(
        "analyze", "features", "in", "--point", "60,10", "--point", "5,75.5", "--json", "--no-map", "--out", "o"
    )
    assert done.code == 0, done.err
    document = json.loads(done.out)
    assert document["settings"]["points"] == ["60,10", "5,75.5"]
    assert {"a.point-1.png", "a.point-2.png", "b.point-1.png", "b.point-2.png"} <= set(document["files"])
    sky, grass = (point["at"][1] for point in document["numbers"]["pictures"][1]["points"])
    assert sky < 40 < grass


def test_without_the_extra_it_says_how_to_get_it(clippy: Any, draw: Draw, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    done = clippy("analyze", "pooling", draw(Path("a.png")))
    assert done.code == MISSING
    assert done.err.endswith("pip install 'clippy-vlm[analyze]'\n")


def test_the_main_picture_in_the_terminal(clippy: Any, draw: Draw, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ["analyze", "pooling", draw(Path("a.png")), "--show", "--out", "o", *SMALL]
    done = clippy(*command)
    assert done.code == 0
    assert "warning: --show needs a terminal with colours" in done.err
    assert "▀" not in done.out
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    done = clippy(*command)
    assert done.code == 0
    assert "▀" in done.out
    done = clippy(*command, "--json")
    assert json.loads(done.out)["main"] == "pooling.overview"
    assert "▀" in done.err


def test_as_a_process_with_a_picture_from_a_pipe(process: Any, draw: Draw, tmp_path: Path) -> None:
    done = process(
        "analyze", "pooling", "-", "--json", "--out", "o", *SMALL, stdin=draw(tmp_path / "a.png").read_bytes()
    )
    assert done.code == 0, done.err
    assert done.err.endswith("open o/report.html\n")
    document = json.loads(done.out)
    assert document["numbers"]["pictures"][0]["picture"] == "-"
    assert (tmp_path / "o/stdin.winners.png").exists()


def test_progress_and_time_left_go_to_the_terminal_and_nothing_else_to_stdout(
    clippy_command: list[str], clippy_environment: dict[str, str], draw: Draw
) -> None:
    for number in range(3):
        draw(Path(f"in/{number}.png"))
    terminal, far_end = os.openpty()
    command = [*clippy_command, "analyze", "features", "in", "--no-map", "--json", "--out", "o", *SMALL]
    environment = clippy_environment | {"TERM": "xterm-256color", "COLUMNS": "100"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=far_end, env=environment) as running:
        os.close(far_end)
        drawn = b""
        with contextlib.suppress(OSError):  # what reading says once nobody writes any more
            while part := os.read(terminal, 65536):
                drawn += part
        out = running.stdout.read() if running.stdout else b""
    os.close(terminal)
    assert running.returncode == 0
    assert json.loads(out)["what"] == "features"
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", drawn.decode())
    assert re.search(r"looking \S+ \d/3 0 failed (-|\d):", shown)
    assert re.search(r"drawing \S+ 3/3 0 failed 0:00:00", shown)


def test_without_a_word_it_lists_what_there_is(clippy: Any) -> None:
    done = clippy("analyze")
    assert (done.code, done.err) == (0, "")
    for name in (*KINDS, "backgrounds", "embed", "labels"):
        assert f" {name} " in done.out


@pytest.mark.parametrize("text", ["", "1", "1,2,3", "a,b", "1;2"])
def test_what_is_no_point(text: str) -> None:
    with pytest.raises(UsageError, match="accepted: X,Y in pixels"):
        parse_points([text])


def test_points_and_numbers_are_read() -> None:
    assert parse_points(["1,2", " 3.5 , 4"]) == ((1.0, 2.0), (3.5, 4.0))
    assert parse_segments("12") == 12
    assert parse_segments(" AUTO ") is None
