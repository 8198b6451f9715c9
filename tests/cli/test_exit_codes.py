"""Every exit code of the contract, through a process of its own."""

import json
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

PICTURES = 12


def test_0_done(process: Any) -> None:
    assert re.fullmatch(r"clippy \d+\.\d+\.\d+\n", process("--version").out)
    done = process()
    assert (done.code, done.err) == (0, "")
    assert "Usage: clippy" in done.out


def test_1_a_bug(process: Any, third_party: Any) -> None:
    done = process("boom", env=third_party.path("hello-clippy"))
    assert (done.code, done.out) == (1, "")
    assert "Traceback (most recent call last):" in done.err


def test_2_usage(process: Any) -> None:
    done = process("segment", "photo.jpg")
    assert done == (2, "", 'error: say what to look for with either --labels "dog,grass" or --labels-file FILE\n')


def test_3_some_of_several_inputs_failed(process: Any, draw: Callable[..., Path], tmp_path: Path) -> None:
    """One of the inputs comes through a pipe, as only a process of its own can show."""
    photo = draw(tmp_path / "photo.png").read_bytes()
    (tmp_path / "bad.jpg").write_text("no picture")
    done = process("segment", "-", "bad.jpg", "-l", "sky,grass", "--size", "64", "--json", stdin=photo)
    assert (done.code, done.err) == (3, "")
    document = json.loads(done.out)
    assert [document[count] for count in ("done", "skipped", "failed")] == [1, 0, 1]
    assert [image["image"] for image in document["images"]] == ["-", "bad.jpg"]
    assert document["images"][0]["outputs"][1] == "clippy-out/stdin.labels.png"
    assert (tmp_path / "clippy-out/stdin.labels.png").stat().st_size


def test_4_the_data_cannot_be_used(process: Any) -> None:
    done = process("segment", "gone.jpg", "--labels", "dog")
    assert done == (4, "", "error: gone.jpg: cannot be read (No such file or directory)\n")


def test_5_a_device_is_missing(process: Any, draw: Callable[..., Path], tmp_path: Path) -> None:
    draw(tmp_path / "photo.jpg")
    hidden = {"CUDA_VISIBLE_DEVICES": ""}
    done = process("segment", "photo.jpg", "-l", "dog", "--device", "cuda", env=hidden)
    assert (done.code, done.out) == (5, "")
    assert re.fullmatch(r"error: --device cuda cannot be used: .+; --device cpu works everywhere\n", done.err)


def test_130_interrupted_in_the_middle_of_a_folder_and_finished_by_the_same_command(
    clippy: Any,
    clippy_command: list[str],
    clippy_environment: dict[str, str],
    draw: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    first = draw(tmp_path / "photos/00.png", (320, 240))
    for number in range(1, PICTURES):
        (first.parent / f"{number:02}.png").write_bytes(first.read_bytes())
    args = ["segment", "photos", "--labels", "sky,grass", "--device", "cpu", "--size", "128"]
    manifest = tmp_path / "clippy-out/manifest.jsonl"
    running = subprocess.Popen(
        [*clippy_command, *args],
        env=clippy_environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 90
        while not (manifest.exists() and manifest.stat().st_size):
            assert running.poll() is None, running.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.005)
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=30)
    finally:
        running.kill()
    assert running.returncode == 130
    assert (out, err) == ("", "error: interrupted; the same command again does what is left\n")
    finished = [json.loads(line) for line in manifest.read_text().splitlines()]
    assert 1 <= len(finished) < PICTURES
    assert {record["status"] for record in finished} == {"ok"}
    for record in finished:
        assert all((tmp_path / "clippy-out" / name).stat().st_size for name in record["outputs"])
    assert not list((tmp_path / "clippy-out").glob(".clippy-tmp-*"))

    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("clippy-out/0*.labels.png")}
    again = clippy(*args, "--json")
    document = json.loads(again.out)
    assert again.code == 0
    assert document["skipped"] == len(finished)
    assert document["done"] == PICTURES - len(finished)
    done_before = [tmp_path / "clippy-out" / record["outputs"][1] for record in finished]
    assert all(path.stat().st_mtime_ns == before[path] for path in done_before if path in before)
