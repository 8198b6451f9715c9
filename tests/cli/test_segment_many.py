"""``clippy segment`` over lists, shards and videos, into a pipe, and what its further options refuse."""

import importlib.util
import io
import json
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clippy_core.model.presets import find

SMALL = ["--size", "64", "--device", "cpu"]
LABELS = ["-l", "sky,grass"]

Draw = Callable[..., Path]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _written(folder: str = "clippy-out") -> set[str]:
    return {str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file()}


def _records(folder: str = "clippy-out") -> dict[str, dict[str, Any]]:
    lines = Path(folder, "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    return {record["input"]: record for record in map(json.loads, lines)}


# --- what is finished ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "line"),
    [
        (["--model", "copy"], "0 done · 2 finished before · 0 failed"),
        (["--max-pixels", "5000"], "0 done · 2 finished before · 0 failed"),
        (["--precision", "bf16"], "2 done · 0 finished before · 0 failed"),
        (["--runtime", "torch"], "2 done · 0 finished before · 0 failed"),
    ],
)
def test_a_run_is_known_again_by_what_decides_its_outputs(clippy: Any, draw: Draw, more: list[str], line: str) -> None:
    draw(Path("p/a.png"))
    draw(Path("p/b.png"))
    Path("copy").symlink_to(find("clippy-lite"))
    command = ["segment", "p", *LABELS, "--save", "labelmap", *SMALL]
    assert "2 done" in clippy(*command).err
    assert line in clippy(*command, *more).err


# --- inputs ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["list.txt", "@list.txt"])
def test_a_list_mirrors_the_paths_in_it(clippy: Any, draw: Draw, given: str) -> None:
    for name in ("p/a.png", "p/b/c.png"):
        draw(Path(name))
    Path("list.txt").write_text("p/a.png\np/b/c.png\np/gone.png\n")
    done = clippy("segment", given, *LABELS, "--save", "labelmap", *SMALL)
    assert done.code == 3
    assert _written() == {"p/a.labels.png", "p/b/c.labels.png", "manifest.jsonl"}
    assert _records()["p/gone.png"]["error"] == "p/gone.png: cannot be read (No such file or directory)"


def test_a_shard_is_a_folder_of_pictures_and_what_is_wrong_with_it_is_a_failed_line(clippy: Any, draw: Draw) -> None:
    picture = draw(Path("x.png")).read_bytes()
    for shard, names in (("s-0.tar", ["0.png", "../../evil.png", "0.txt"]), ("s-1.tar", ["0.png", "1.png"])):
        with tarfile.open(shard, "w") as archive:
            for name in names:
                info = tarfile.TarInfo(name)
                info.size = len(picture)
                archive.addfile(info, io.BytesIO(picture))
    whole = Path("s-1.tar").read_bytes()
    Path("s-1.tar").write_bytes(whole[: 512 + -(-len(picture) // 512) * 512 + 700])
    done = clippy("segment", "s-{0..1}.tar", *LABELS, "--out", "in/out", "--save", "labelmap,json", *SMALL)
    assert done.code == 3
    assert _written("in") == {
        *(f"out/{stem}.{kind}" for stem in ("s-0/0", "s-0/evil", "s-1/0") for kind in ("labels.png", "json")),
        "out/manifest.jsonl",
    }
    assert json.loads(Path("in/out/s-0/evil.json").read_text())["image"] == "s-0.tar/../../evil.png"
    records = _records("in/out")
    assert [source for source, record in records.items() if record["status"] == "failed"] == ["s-1.tar"]
    assert (
        records["s-1.tar"]["error"]
        == f"s-1.tar: the file ends at byte {Path('s-1.tar').stat().st_size:,}, in the middle of '1.png'"
    )
    labels = [np.asarray(Image.open(f"in/out/{stem}.labels.png")) for stem in ("s-0/0", "s-1/0")]
    assert np.array_equal(*labels)


def test_a_shard_given_alone_that_is_none_is_one_line_and_exit_4(clippy: Any) -> None:
    Path("s.tar").write_text("<html>not found</html>")
    done = clippy("segment", "s.tar", *LABELS, *SMALL)
    assert (done.code, done.out) == (4, "")
    assert done.err.startswith("error: s.tar: not a tar file, or damaged")
    assert done.err.count("\n") == 1


def test_a_video_is_done_once_and_then_finished(clippy: Any, draw: Draw) -> None:
    import cv2

    frame_HW3 = np.asarray(Image.open(draw(Path("x.png"), (64, 48))))[..., ::-1]
    writer = cv2.VideoWriter("clip.avi", cv2.VideoWriter.fourcc(*"MJPG"), 4.0, (64, 48))
    for _ in range(8):
        writer.write(frame_HW3)
    writer.release()
    command = ["segment", "clip.avi", *LABELS, "--fps", "1", "--save", "labelmap,json", *SMALL]
    first = clippy(*command)
    assert first.code == 0, first.err
    outputs = _records()["clip.avi"]["outputs"]
    assert len([name for name in outputs if name.endswith(".labels.png")]) == 2
    assert set(outputs) <= _written()
    assert clippy(*command).err.startswith("0 done · 1 finished before")
    command[command.index("1")] = "2"
    assert clippy(*command).err.startswith("1 done · 0 finished before"), "other frames are another job"


def test_a_video_that_is_none_is_one_line_and_exit_4(clippy: Any) -> None:
    Path("clip.mp4").write_text("no video")
    done = clippy("segment", "clip.mp4", *LABELS, *SMALL)
    assert (done.code, done.out) == (4, "")
    assert done.err.startswith("error: clip.mp4: ")
    assert done.err.count("\n") == 1


# --- outputs -----------------------------------------------------------------------------------------------------


def test_a_picture_goes_through_a_pipe(
    clippy_command: list[str], clippy_environment: dict[str, str], clippy: Any, draw: Draw
) -> None:
    photo = draw(Path("photo.png")).read_bytes()
    line = ["segment", "-", *LABELS, "--out", "-", "--save", "labelmap", *SMALL]
    done = subprocess.run(
        [*clippy_command, *line], env=clippy_environment, input=photo, capture_output=True, timeout=240, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert _written(".") == {"photo.png"}, "nothing is written beside it"
    assert clippy("segment", "photo.png", *LABELS, *SMALL, "--save", "labelmap").code == 0
    assert done.stdout == Path("clippy-out/photo.labels.png").read_bytes()


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (["--save", "overlay,json"], "--out - writes one picture, but --save names 2: overlay, json"),
        (["--save", "json"], "--save json is not one picture; accepted with --out -: overlay, labelmap"),
        (["--json"], "does not go with --json"),
        (["--summary"], "does not go with --summary"),
        (["--jobs", "2"], "does not go with --gpus, --jobs or --cluster"),
        (["b.png"], "--out - writes one picture to standard output, but there are 2 inputs"),
    ],
)
def test_what_does_not_go_into_a_pipe_is_a_usage_error(clippy: Any, draw: Draw, more: list[str], expected: str) -> None:
    for name in ("a.png", "b.png"):
        draw(Path(name))
    done = clippy("segment", "a.png", *more, *LABELS, "--out", "-", *SMALL)
    assert (done.code, done.out) == (2, "")
    assert expected in done.err


def test_a_bad_picture_leaves_nothing_in_the_pipe(clippy: Any) -> None:
    Path("a.png").write_text("no picture")
    for given in ("a.png", "gone.png"):
        done = clippy("segment", given, *LABELS, "--out", "-", *SMALL)
        assert (done.code, done.out) == (4, "")
        assert done.err.startswith(f"error: {given}: ")


def test_files_that_cover_the_run_are_complete_after_a_second_one(clippy: Any, draw: Draw) -> None:
    draw(Path("photos/a.png"))
    command = ["segment", "photos", *LABELS, "--save", "overlay,json,coco", "--summary", *SMALL]
    first = clippy(*command)
    assert first.code == 0
    for name in ("coco.json", "summary.html"):
        assert f"wrote clippy-out/{name}\n" in first.err
    draw(Path("photos/b.png"))
    document = json.loads(clippy(*command, "--json").out)
    assert [image["status"] for image in document["images"]] == ["skipped", "ok"]
    assert "clippy-out/coco.json" in document["files"]
    assert {image["file_name"] for image in json.loads(Path("clippy-out/coco.json").read_text())["images"]} == {
        "a.png",
        "b.png",
    }
    assert "b.png" in Path("clippy-out/summary.html").read_text(encoding="utf-8")


def test_a_single_picture_has_them_too(clippy: Any, draw: Draw) -> None:
    draw(Path("a.png"))
    done = clippy("segment", "a.png", *LABELS, "--save", "coco", *SMALL)
    assert done.code == 0
    assert "wrote clippy-out/coco.json" in done.err
    assert len(json.loads(Path("clippy-out/coco.json").read_text())["images"]) == 1


def test_the_json_of_a_folder_run_says_nothing_that_differs_from_run_to_run(clippy: Any, draw: Draw) -> None:
    draw(Path("photos/a.png"))
    assert clippy("segment", "photos", *LABELS, "--save", "json", *SMALL).code == 0
    first = Path("clippy-out/a.json").read_bytes()
    assert json.loads(first)["seconds"] == {}
    assert _records()["photos/a.png"]["seconds"] > 0
    assert clippy("segment", "photos", *LABELS, "--save", "json", *SMALL, "--overwrite").code == 0
    assert Path("clippy-out/a.json").read_bytes() == first


# --- options that are refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "code", "expected"),
    [
        (["--jobs", "0"], 2, "--jobs is 0; accepted: 1 or more"),
        (["--batch", "-1"], 2, "--batch is -1; accepted: 1 or more"),
        (["--gpus", "-1"], 2, "--gpus is -1; accepted: 0 or more"),
        (["--fps", "0"], 2, "--fps is 0; accepted: more than 0"),
        (["--fps", "nan"], 2, "--fps is nan"),
        (["--max-pixels", "0"], 2, "--max-pixels is 0"),
        (["--gpus", "2", "--jobs", "2"], 2, "--gpus and --jobs exclude each other"),
        (["--gpus", "1", "--device", "cpu"], 2, "--gpus 1 and --device cpu exclude each other"),
        (["--gpus", "0", "--device", "cuda"], 2, "--gpus 0 is the CPU"),
        (["--jobs", "2", "--device", "cuda:1"], 2, "--jobs are processes on the CPU"),
        (["--jobs", "2", "--show"], 2, "--show goes with one process only"),
        (["--cluster", "slurm"], 2, "--cluster is 'slurm'; accepted: ray for this machine, ray://HOST:PORT"),
        (["--cluster", "ray://host"], 2, "--cluster is 'ray://host'"),
        (["--runtime", "tpu"], 2, "--runtime is 'tpu'; accepted: "),
        (["--gpus", "900"], 5, "--gpus 900: "),
    ],
)
def test_options_that_do_not_fit_are_one_line(
    clippy: Any, draw: Draw, more: list[str], code: int, expected: str
) -> None:
    draw(Path("photos/a.png"))
    done = clippy("segment", "photos", *LABELS, *more)
    assert (done.code, done.out) == (code, "")
    assert expected in done.err
    assert done.err.count("\n") == 1
    assert not Path("clippy-out").exists()


def test_a_missing_ray_says_how_to_get_it(clippy: Any, draw: Draw, monkeypatch: pytest.MonkeyPatch) -> None:
    draw(Path("photos/a.png"))
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "ray" else found(name, *rest))
    done = clippy("segment", "photos", *LABELS, "--cluster", "ray")
    assert done.code == 5
    assert done.err == "error: --cluster needs Ray; pip install 'clippy-vlm[ray]'\n"


def test_under_torchrun_the_number_of_processes_is_decided(
    clippy: Any, draw: Draw, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw(Path("photos/a.png"))
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "2"), ("LOCAL_WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)
    done = clippy("segment", "photos", *LABELS, "--jobs", "2")
    assert done.code == 2
    assert "torchrun decides how many processes there are" in done.err


def test_one_gpu_of_none_is_the_cpu(clippy: Any, draw: Draw) -> None:
    draw(Path("photos/a.png"))
    assert clippy("segment", "photos", *LABELS, "--gpus", "0", "--size", "64", "--save", "json").code == 0


@pytest.mark.parametrize(
    ("device", "gpus", "mine", "expected"),
    [
        ("auto", 2, "1", "cuda:1"),
        ("cuda", 2, "0", "cuda:0"),
        ("auto", 1, "1", "auto"),
        ("auto", 0, "0", "auto"),
        ("cpu", 2, "1", "cpu"),
        ("cuda:1", 2, "0", "cuda:1"),
    ],
)
def test_a_rank_has_the_gpu_of_its_number(
    monkeypatch: pytest.MonkeyPatch, device: str, gpus: int, mine: str, expected: str
) -> None:
    from clippy_cli import processes, segmenting
    from clippy_core.segmentation.batch.run import ModelChoice

    monkeypatch.setattr(processes, "count_gpus", lambda: gpus)
    monkeypatch.setenv("LOCAL_RANK", mine)
    assert segmenting._own_device(ModelChoice(device=device)).device == expected
