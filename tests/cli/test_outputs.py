"""What ``clippy segment`` leaves of a whole run, of videos, and on standard output."""

import csv
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from clippy_core.segmentation.video.reading import quiet_opencv
from clippy_core.segmentation.writers import WRITERS

SMALL = ["-l", "sky,grass|meadow,dog", "--size", "64", "--device", "cpu"]
ALL = "overlay,labelmap,json,masks,scores,coco,polygons,labelme,csv"

Draw = Callable[..., Path]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _film(path: Path, picture: Path, frames: int = 6) -> Path:
    with quiet_opencv():
        writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"MJPG"), 2.0, (120, 80))
        pixels = cv2.imread(str(picture))
        for number in range(frames):
            writer.write(np.roll(pixels, 5 * number, axis=1))
        writer.release()
    return path


def _files(folder: str) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def _without_manifest(folder: str) -> dict[str, bytes]:
    return {name: data for name, data in _files(folder).items() if name != "manifest.jsonl"}


# pycocotools 2.0.11 decodes into an array type that does not know numpy 2's keyword yet.
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")
def test_every_output_of_a_folder_and_what_covers_the_run(clippy: Any, draw: Draw) -> None:
    for name in ("a/one.png", "a/b/two.jpg", "three.png"):
        draw(Path("photos", name))
    Path("photos/bad.png").write_bytes(b"no picture")
    done = clippy("segment", "photos", "--save", ALL, "--summary", "--out", "out", *SMALL)
    assert done.code == 3
    assert "Traceback" not in done.err
    found = _files("out")
    for stem in ("a/one", "a/b/two", "three"):
        for suffix in ("overlay.png", "labels.png", "json", "scores.png", "geojson", "labelme.json"):
            assert f"{stem}.{suffix}" in found
    for name in ("coco.json", "summary.csv", "summary.html", "contact-sheet.png"):
        assert found[name]
        assert name in done.err
    coco = COCO("out/coco.json")
    assert {image["file_name"] for image in coco.imgs.values()} == {"a/one.png", "a/b/two.jpg", "three.png"}
    for image in coco.imgs.values():
        labels = np.asarray(Image.open(Path("out", image["file_name"]).with_suffix(".labels.png")))
        again = np.zeros_like(labels)
        for annotation in coco.imgToAnns[image["id"]]:
            again += np.asarray(coco.annToMask(annotation)) * annotation["category_id"]
        np.testing.assert_array_equal(again - 1, labels)
    rows = list(csv.DictReader(io.StringIO(found["summary.csv"].decode())))
    assert [row["label"] for row in rows] == ["sky", "grass", "dog"] * 3
    assert sum(int(row["pixels"]) for row in rows) == 3 * 120 * 80
    page = found["summary.html"].decode()
    assert "3 pictures segmented" in page
    assert "bad.png" in page


def test_a_run_in_two_parts_ends_with_the_same_files(clippy: Any, draw: Draw) -> None:
    for number in range(4):
        draw(Path(f"photos/{number}.png"), (120, 80 + number))
    options = ["--save", "json,overlay,coco,csv", "--summary", *SMALL]
    assert clippy("segment", "photos", "--out", "whole", *options).code == 0
    Path("later").mkdir()
    for number in (0, 2):
        shutil.move(f"photos/{number}.png", "later")
    assert clippy("segment", "photos", "--out", "parts", *options).code == 0
    for number in (0, 2):
        shutil.move(f"later/{number}.png", "photos")
    assert clippy("segment", "photos", "--out", "parts", *options).code == 0
    assert _without_manifest("parts") == _without_manifest("whole")


def test_one_picture_has_the_files_of_a_run_too(clippy: Any, draw: Draw) -> None:
    draw(Path("photo.png"))
    done = clippy("segment", "photo.png", "--save", "coco,csv", "--out", "out", *SMALL)
    assert done.code == 0
    assert len(COCO("out/coco.json").imgs) == 1
    assert "out/coco.json" in done.err


def test_a_video(clippy: Any, draw: Draw) -> None:
    _film(Path("clip.avi"), draw(Path("photo.png")))
    done = clippy("segment", "clip.avi", "--fps", "1", "--save", "overlay,json,labelmap,coco", "--out", "out", *SMALL)
    assert done.code == 0
    document = json.loads(Path("out/clip.json").read_text())
    assert [moment["seconds"] for moment in document["timeline"]] == [0, 1, 2]
    assert sum(label["pixels"] for label in document["labels"]) == 3 * 120 * 80
    images = COCO("out/coco.json").imgs.values()
    assert {image["file_name"] for image in images} == {f"clip/frame-{n:06d}" for n in (0, 2, 4)}
    video = cv2.VideoCapture("out/clip.overlay.mp4")
    assert (video.get(cv2.CAP_PROP_FRAME_COUNT), video.get(cv2.CAP_PROP_FPS)) == (3, 1)
    assert sorted(path.name for path in Path("out/clip").glob("*.png")) == [
        f"frame-{n:06d}.labels.png" for n in (0, 2, 4)
    ]
    before = _files("out")
    again = clippy("segment", "clip.avi", "--fps", "1", "--save", "overlay,json,labelmap,coco", "--out", "out", *SMALL)
    assert again.code == 0
    assert _without_manifest("out") == {name: data for name, data in before.items() if name != "manifest.jsonl"}


def test_videos_that_cannot_be_used_are_failed_lines_beside_pictures(process: Any, draw: Draw) -> None:
    """As a real process, because FFmpeg writes past Python to the terminal."""
    film = _film(Path("cut.avi"), draw(Path("photo.png")), frames=40)
    film.write_bytes(film.read_bytes()[: film.stat().st_size // 2])
    Path("none.mp4").write_bytes(b"<html>")
    Path("empty.mov").touch()
    done = process("segment", "photo.png", "cut.avi", "none.mp4", "empty.mov", "--save", "overlay,json", *SMALL)
    assert done.code == 3
    records = [json.loads(line) for line in Path("clippy-out/manifest.jsonl").read_text().splitlines()]
    assert [record["status"] for record in records] == ["ok", "failed", "failed", "failed"]
    reasons = [record["error"] for record in records[1:]]
    assert "breaks off after" in reasons[0]
    assert "not a video that OpenCV can read" in reasons[1]
    assert "the file is empty" in reasons[2]
    assert json.loads(Path("clippy-out/cut.json").read_text())["complete"] is False
    for noise in ("Traceback", "moov", "FFMPEG", "[ WARN", "[ERROR", "@ 0x"):
        assert noise not in done.err
    assert done.out.count("photo.png") <= 1


@pytest.mark.parametrize("name", ["none.mp4", "missing.mp4"])
def test_a_single_video_that_cannot_be_used_is_one_line(clippy: Any, name: str) -> None:
    Path("none.mp4").write_bytes(b"<html>")
    done = clippy("segment", name, "--out", "out", *SMALL)
    assert done.code == 4
    lines = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert name in lines[0]


def test_a_picture_through_a_pipe(process: Any, draw: Draw, tmp_path: Path) -> None:
    draw(Path("photo.png"))
    with open("photo.png", "rb") as given, open("labels.png", "wb") as taken:
        done = process(
            *("segment", "-", "--out", "-", "--save", "labelmap", *SMALL),
            stdin=given.read(), stdout=taken, stderr=-1, capture_output=False,
        )  # fmt: skip
    assert done.code == 0, done.err
    assert process("segment", "photo.png", "--save", "labelmap", "--out", "out", *SMALL).code == 0
    assert Path("labels.png").read_bytes() == Path("out/photo.labels.png").read_bytes()


def test_what_is_not_one_picture_is_refused_for_a_pipe(clippy: Any, draw: Draw) -> None:
    draw(Path("photo.png"))
    for kind in ("json", "coco", "masks", "polygons"):
        done = clippy("segment", "photo.png", "--out", "-", "--save", kind, *SMALL)
        assert done.code == 2
        assert kind in done.err
        assert "overlay, labelmap, scores" in done.err
        assert done.out == ""


def test_the_writers_are_listed(clippy: Any) -> None:
    done = clippy("plugins")
    for name in WRITERS.names():
        assert name in done.out
