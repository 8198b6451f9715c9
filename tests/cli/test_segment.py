"""``clippy segment`` from the command line to the files it leaves."""

import io
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
SMALL = ["--size", "64", "--device", "cpu"]
DEFAULT_SUFFIXES = ("overlay.png", "labels.png", "json")
STEPS = ["load", "decode", "text", "encode", "label", "write"]

Draw = Callable[..., Path]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _written(folder: str = "clippy-out") -> set[str]:
    return {str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file()}


def _label_map(path: str) -> np.ndarray:
    return np.asarray(Image.open(path))


def test_a_photograph_as_in_the_readme(process: Any, tmp_path: Path) -> None:
    """The README's first command as a real process: the table, the files, the times, and a right answer."""
    photo = ROOT / "docs/photographs/castle.jpg"
    done = process("segment", photo, "--labels", "castle,river|water,sky")
    assert done.code == 0
    title, _, heading, *rows = [line.rstrip() for line in done.out.splitlines()]
    assert title == str(photo)
    assert heading.split() == ["label", "share", "pixels", "score", "box", "(x,", "y,", "w,", "h)"]
    rows = [row for row in rows if row.startswith(" ■ ")]
    assert len(rows) == 3
    assert {row.split()[1] for row in rows} == {"castle", "river", "sky"}
    shares = [float(re.findall(r"([\d.]+)%", row)[0]) for row in rows]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(100, abs=0.2)
    *wrote, times = done.err.splitlines()
    assert wrote == [f"wrote clippy-out/castle.{suffix}" for suffix in DEFAULT_SUFFIXES]
    assert re.fullmatch(" · ".join([*(rf"{step} \d+\.\d\d s" for step in STEPS), r"total \d+\.\d\d s"]), times)
    labels = _label_map("clippy-out/castle.labels.png")
    summary = json.loads(Path("clippy-out/castle.json").read_text(encoding="utf-8"))
    with Image.open(photo) as image, Image.open("clippy-out/castle.overlay.png") as overlay:
        assert labels.shape == (image.height, image.width)
        assert overlay.size[0] == image.width
    assert [label["pixels"] for label in summary["labels"]] == np.bincount(labels.ravel(), minlength=3).tolist()
    assert labels[20, labels.shape[1] // 2] == 2, "the top of the picture is sky"


def test_one_picture_prints_its_labels_the_largest_first(clippy: Any, draw: Draw) -> None:
    draw(Path("photo.jpg"))
    done = clippy("segment", "photo.jpg", "-l", "sky,zebra|horse,grass", *SMALL)
    assert done.code == 0
    rows = [line for line in done.out.splitlines() if line.startswith(" ■ ")]
    pixels = [int(re.findall(r"% +([\d,]+) ", row)[0].replace(",", "")) for row in rows]
    assert pixels == sorted(pixels, reverse=True)
    assert sum(pixels) == 120 * 80
    assert _written() == {f"photo.{suffix}" for suffix in DEFAULT_SUFFIXES}
    assert "error" not in done.err
    assert "warning" not in done.err


def test_a_label_without_a_pixel_is_listed_without_a_box(clippy: Any, draw: Draw) -> None:
    draw(Path("photo.jpg"))
    words = ["sky", "grass", "tractor", "piano", "violin", "ocean", "cathedral", "giraffe"]
    done = clippy("segment", "photo.jpg", "-l", ",".join(words), *SMALL)
    summary = json.loads(Path("clippy-out/photo.json").read_text())
    absent = [label["name"] for label in summary["labels"] if not label["pixels"]]
    assert absent
    for name in absent:
        assert re.search(rf"^ ■ {name} +0\.0% +0 +-?0\.\d\d\d +– *$", done.out, re.MULTILINE)


def test_many_labels_are_cut_in_the_table_only(clippy: Any, draw: Draw) -> None:
    draw(Path("photo.jpg"))
    Path("words.txt").write_text("".join(f"thing {number}\n" for number in range(40)))
    done = clippy("segment", "photo.jpg", "--labels-file", "words.txt", *SMALL)
    assert done.out.count("■") == 30
    assert "… and 10 more" in done.out
    assert len(json.loads(Path("clippy-out/photo.json").read_text())["labels"]) == 40


def test_json_of_one_picture_is_one_document(clippy: Any, draw: Draw) -> None:
    draw(Path("photo.jpg"))
    done = clippy("segment", "photo.jpg", "-l", "sky,grass", "--json", *SMALL)
    assert (done.code, done.err) == (0, "")
    document = json.loads(done.out)
    assert list(document) == ["images", "done", "skipped", "failed", "seconds", "version"]
    (image,) = document["images"]
    assert (image["image"], image["width"], image["height"]) == ("photo.jpg", 120, 80)
    assert (image["model"], image["status"], image["error"]) == ("clippy-lite", "ok", None)
    assert image["outputs"] == [f"clippy-out/photo.{suffix}" for suffix in DEFAULT_SUFFIXES]
    assert [label["name"] for label in image["labels"]] == ["sky", "grass"]
    assert sum(label["pixels"] for label in image["labels"]) == 120 * 80
    assert list(document["seconds"]) == STEPS
    on_disk = json.loads(Path("clippy-out/photo.json").read_text())
    assert on_disk.items() <= image.items()


def test_save_chooses_what_is_written(clippy: Any, draw: Draw) -> None:
    draw(Path("photo.png"))
    done = clippy("segment", "photo.png", "-l", "sky,grass", "--save", "masks, scores,masks", *SMALL, "--json")
    (image,) = json.loads(done.out)["images"]
    found = [label for label in image["labels"] if label["pixels"]]
    masks = {f"photo.mask.{label['index']:03d}-{label['name']}.png" for label in found}
    assert _written() == masks | {"photo.scores.png"}
    assert sum(int((_label_map(f"clippy-out/{name}") == 255).sum()) for name in masks) == 120 * 80
    scores = _label_map("clippy-out/photo.scores.png") / 65535 * 2 - 1
    best = max(label["score"] for label in found)
    assert scores.shape == (80, 120)
    assert scores.max() <= best + 1e-3
    assert scores.min() > -1


def test_a_folder_is_mirrored_and_equal_names_never_collide(clippy: Any, draw: Draw) -> None:
    for name in ("a/img.jpg", "b/img.jpg", "b/img.png", "top.png"):
        draw(Path("photos", name))
    Path("photos/notes.txt").write_text("no picture, and not taken for one")
    done = clippy("segment", "photos", "-l", "sky,grass", "--out", "out", *SMALL)
    assert done.code == 0
    stems = ("a/img", "b/img.jpg", "b/img.png", "top")
    assert _written("out") == {f"{stem}.{suffix}" for stem in stems for suffix in DEFAULT_SUFFIXES} | {"manifest.jsonl"}
    assert re.search(r"^ *label +pictures +mean share *$", done.out, re.MULTILINE)
    assert sorted(line.split()[0] for line in done.out.splitlines() if "%" in line) == ["grass", "sky"]
    assert done.err == "4 done · 0 finished before · 0 failed · outputs in out\n"


def test_a_pattern_takes_the_pictures_that_match(clippy: Any, draw: Draw) -> None:
    for name in ("a/x.jpg", "a/y.png", "b/deep/z.jpg"):
        draw(Path("photos", name))
    done = clippy("segment", "photos/**/*.jpg", "-l", "sky,grass", "--save", "json", *SMALL, "--json")
    assert [image["image"] for image in json.loads(done.out)["images"]] == ["photos/a/x.jpg", "photos/b/deep/z.jpg"]
    assert _written() == {"a/x.json", "b/deep/z.json", "manifest.jsonl"}


def test_the_same_command_again_does_only_what_is_left(clippy: Any, draw: Draw) -> None:
    for name in ("one.jpg", "two.jpg"):
        draw(Path("photos", name))
    command = ["segment", "photos", "-l", "sky,grass", "--save", "labelmap", *SMALL]
    assert clippy(*command).err.startswith("2 done · 0 finished before")
    first = Path("clippy-out/one.labels.png").stat().st_mtime_ns
    draw(Path("photos/three.jpg"))
    again = clippy(*command)
    assert again.err.startswith("1 done · 2 finished before · 0 failed")
    assert Path("clippy-out/one.labels.png").stat().st_mtime_ns == first
    nothing_left = clippy(*command)
    assert (nothing_left.code, nothing_left.out) == (0, again.out), "the table is of the whole folder"
    assert nothing_left.err.startswith("0 done · 3 finished before")
    assert clippy(*command, "--overwrite").err.startswith("3 done · 0 finished before")
    assert Path("clippy-out/one.labels.png").stat().st_mtime_ns > first
    assert clippy("segment", "photos", "-l", "sky,tree", "--save", "labelmap", *SMALL).err.startswith("3 done"), (
        "other labels are another job"
    )


def test_some_of_several_failing_is_exit_3_with_a_table_of_reasons(clippy: Any, draw: Draw) -> None:
    draw(Path("photos/good.jpg"))
    Path("photos/bad.jpg").write_text("no picture")
    Path("photos/zero.jpg").touch()
    done = clippy("segment", "photos", "-l", "sky,grass", *SMALL)
    assert done.code == 3
    assert "bad.jpg" not in done.out
    first, title, *table, last = [line.strip() for line in done.err.splitlines() if line.strip()]
    assert first == "1 done · 0 finished before · 2 failed · outputs in clippy-out"
    assert title == "failed"
    assert re.match(r"photos/bad.jpg +not a picture in an accepted format", table[2])
    assert re.match(r"photos/zero.jpg +the file is empty", "\n".join(table[3:]))
    assert last == "the same command again tries only the failed ones"
    draw(Path("photos/bad.jpg"))
    repaired = clippy("segment", "photos", "-l", "sky,grass", *SMALL)
    assert repaired.code == 3
    assert repaired.err.startswith("1 done · 1 finished before · 1 failed")


def test_all_of_several_failing_is_exit_4(clippy: Any) -> None:
    Path("photos").mkdir()
    for name in ("a.jpg", "b.png"):
        Path("photos", name).write_text("no picture")
    done = clippy("segment", "photos", "-l", "sky", *SMALL, "--json")
    assert done.code == 4
    document = json.loads(done.out)
    assert [image["status"] for image in document["images"]] == ["failed", "failed"]
    assert all(image["error"].startswith(image["image"]) for image in document["images"])
    assert document["failed"] == 2


def test_json_of_one_picture_has_all_that_it_has_among_several(clippy: Any, draw: Draw) -> None:
    asked = ["-l", "sky,grass", "--json", *SMALL]
    draw(Path("photos/good.jpg"))
    (among,) = json.loads(clippy("segment", "photos", *asked).out)["images"]
    (alone,) = json.loads(clippy("segment", "photos/good.jpg", *asked).out)["images"]
    assert set(among) == {"image", "status", "outputs", "error", "notes", "seconds"}
    assert {key: type(value) for key, value in among.items()} == {key: type(alone[key]) for key in among}
    assert set(alone) - set(among) == {"width", "height", "model", "labels", "version"}


def test_json_of_several_inputs_is_one_document_with_the_failures_in_it(clippy: Any, draw: Draw) -> None:
    draw(Path("good.jpg"))
    done = clippy("segment", "good.jpg", "gone.jpg", "-l", "sky,grass", "--json", *SMALL)
    assert (done.code, done.err) == (3, "")
    document = json.loads(done.out)
    assert [(image["image"], image["status"]) for image in document["images"]] == [
        ("good.jpg", "ok"),
        ("gone.jpg", "failed"),
    ]
    assert document["images"][0]["outputs"] == [f"clippy-out/good.{suffix}" for suffix in DEFAULT_SUFFIXES]
    assert document["images"][1]["error"] == "gone.jpg: cannot be read (No such file or directory)"


def test_fail_fast_stops_at_the_first_failure(clippy: Any, draw: Draw) -> None:
    for name in ("1.jpg", "3.jpg"):
        draw(Path("photos", name))
    Path("photos/2.jpg").write_text("no picture")
    command = ["segment", "photos", "-l", "sky,grass", "--fail-fast", "--save", "json", *SMALL]
    done = clippy(*command, "--json")
    assert done.code == 3
    document = json.loads(done.out)
    assert [image["status"] for image in document["images"]] == ["ok", "failed"]
    assert document["untried"] == 1
    assert _written() == {"1.json", "manifest.jsonl"}
    told = clippy(*command).err
    assert "0 done · 1 finished before · 1 failed · 1 not tried · outputs in clippy-out" in told
    assert told.endswith("the same command again tries only the rest\n")


def test_standard_input_is_a_picture_like_any_other(clippy: Any, draw: Draw, monkeypatch: pytest.MonkeyPatch) -> None:
    photo = draw(Path("photo.png")).read_bytes()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(photo)))
    done = clippy("segment", "-", "-l", "sky,grass", "--json", "--save", "labelmap", *SMALL)
    assert (done.code, done.err) == (0, "")
    (image,) = json.loads(done.out)["images"]
    assert (image["image"], image["width"], image["height"]) == ("-", 120, 80)
    assert image["outputs"] == ["clippy-out/stdin.labels.png"]
    assert _label_map("clippy-out/stdin.labels.png").shape == (80, 120)


class _Broken(io.RawIOBase):
    def read(self, size: int = -1) -> bytes:
        raise OSError(5, "Input/output error")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param(lambda: io.BytesIO(b""), "the file is empty", id="nothing"),
        pytest.param(lambda: io.BytesIO(b"no picture"), "not a picture in an accepted format .*", id="text"),
        pytest.param(_Broken, r"cannot be read \(Input/output error\)", id="broken"),
        pytest.param(None, "standard input is closed; accepted: a picture from a pipe or a file", id="closed"),
    ],
)
@pytest.mark.parametrize("out", [[], ["--out", "-"]], ids=["to files", "to stdout"])
def test_bad_standard_input_is_one_line(
    clippy: Any, monkeypatch: pytest.MonkeyPatch, given: Callable[[], object] | None, expected: str, out: list[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", given and SimpleNamespace(buffer=given()))
    done = clippy("segment", "-", "-l", "sky", *out)
    assert (done.code, done.out) == (4, "")
    assert re.fullmatch(rf"error: -: {expected}\n", done.err)


def test_a_labels_file_does_what_the_option_does(clippy: Any, draw: Draw) -> None:
    draw(Path("photo.png"))
    Path("words.txt").write_text('sky\n\ngrass|lawn\n"salt, pepper"\n', encoding="utf-8")
    assert clippy("segment", "photo.png", "--labels-file", "words.txt", "-o", "a", *SMALL).code == 0
    assert clippy("segment", "photo.png", "-l", 'sky,grass|lawn,"salt, pepper"', "-o", "b", *SMALL).code == 0
    assert np.array_equal(_label_map("a/photo.labels.png"), _label_map("b/photo.labels.png"))
    names = [label["name"] for label in json.loads(Path("a/photo.json").read_text())["labels"]]
    assert names == ["sky", "grass", "salt, pepper"]


def test_templates_change_the_scores(clippy: Any, draw: Draw) -> None:
    draw(Path("photo.png"))

    def scores(*more: str) -> list[float]:
        done = clippy("segment", "photo.png", "-l", "sky,grass", "--json", "--save", "json", *SMALL, *more)
        return [label["score"] for label in json.loads(done.out)["images"][0]["labels"]]

    plain, ensemble = scores("--template", "{}"), scores("--template", "{}", "--template", "a drawing of a {}.")
    assert plain != ensemble
    assert scores("--template", "{}") == plain


NOT_OURS = "is there already, and not by clippy; move it away, or give another --out"
LABELME = '{"version": "5.0.1", "flags": {}, "shapes": [], "imagePath": "a.png", "imageData": null}'


def test_work_of_others_is_not_written_over(clippy: Any, draw: Draw) -> None:
    draw(Path("photos/a.png"))
    draw(Path("photos/b.png"))
    Path("photos/a.json").write_text(LABELME)
    asked = ["-l", "sky,grass", "--out", "photos", *SMALL]
    done = clippy("segment", "photos/a.png", *asked)
    assert (done.code, done.out) == (4, "")
    assert (
        done.err == "error: photos/a.json: is there already, and not by clippy; move it away, or give another --out\n"
    )
    assert clippy("segment", "photos/a.png", "photos/b.png", *asked).code == 3
    assert Path("photos/a.json").read_text() == LABELME
    assert Path("photos/b.json").exists()
    Path("photos/a.json").unlink()
    for _ in range(2):  # ours may be written over
        assert clippy("segment", "photos/a.png", "photos/b.png", *asked, "--overwrite").code == 0
        assert clippy("segment", "photos/a.png", *asked).code == 0


@pytest.mark.parametrize("name", ["coco.json", "summary.csv", "manifest.jsonl"])
def test_a_run_does_not_begin_where_its_files_would_replace_those_of_others(clippy: Any, draw: Draw, name: str) -> None:
    draw(Path("photos/a.png"))
    draw(Path("photos/b.png"))
    path = Path("data", name)
    path.parent.mkdir()
    path.write_text('{"images": [], "annotations": []}\n')
    asked = ["-l", "sky,grass", "--out", "data", "--save", "json,coco,csv", *SMALL]
    for given in ("photos", "photos/a.png"):
        done = clippy("segment", given, *asked)
        assert (done.code, done.err) == (
            4,
            f"error: {path}: {NOT_OURS}\n",
        )
        assert [file.name for file in path.parent.iterdir()] == [name]
    path.unlink()
    for _ in range(2):
        assert clippy("segment", "photos", *asked, "--overwrite").code == 0


def test_options_that_are_given_twice_say_all(clippy: Any, draw: Draw) -> None:
    draw(Path("photo.png"))
    asked = ["segment", "photo.png", "-l", "sky", "--labels", "grass|meadow,tree", *SMALL]
    done = clippy(*asked, "--save", "labelmap", "--save", "json", "--json")
    (image,) = json.loads(done.out)["images"]
    assert [label["name"] for label in image["labels"]] == ["sky", "grass", "tree"]
    assert [Path(name).suffix for name in image["outputs"]] == [".png", ".json"]


@pytest.mark.parametrize("rule", ["threshold=1", "margin=2", "softmax=1"])
def test_a_certainty_nobody_reaches_makes_all_of_it_background(clippy: Any, draw: Draw, rule: str) -> None:
    draw(Path("photo.png"))
    done = clippy("segment", "photo.png", "-l", "sky,grass", "--background", rule, "--json", *SMALL)
    labels = json.loads(done.out)["images"][0]["labels"]
    assert [label["name"] for label in labels] == ["background", "sky", "grass"]
    assert [label["pixels"] for label in labels] == [120 * 80, 0, 0]
    assert not _label_map("clippy-out/photo.labels.png").any()


@pytest.mark.parametrize("rule", ["threshold=0.1", "margin=0.1", "softmax=0.6"])
def test_a_background_by_certainty_has_no_score(clippy: Any, draw: Draw, rule: str) -> None:
    draw(Path("photo.png"))
    asked = [
        "segment",
        "photo.png",
        "-l",
        "sky,grass",
        "--background",
        rule,
        *SMALL,
        "--save",
        "json,csv,coco,polygons",
    ]
    (background, *others) = json.loads(clippy(*asked, "--json").out)["images"][0]["labels"]
    assert background["score"] is None
    assert all(isinstance(label["score"], float) for label in others)
    table = Path("clippy-out/summary.csv").read_text().splitlines()
    assert [bool(line.split(",")[5]) for line in table[1:]] == [False, True, True]
    assert re.search(r"■ background +[\d.]+% +[\d,]+ +– ", clippy(*asked).out)
    written = "".join(path.read_text() for path in Path("clippy-out").glob("*") if path.is_file())
    assert "NaN" not in written
    assert "nan" not in written


def test_background_words_are_label_0(clippy: Any, draw: Draw) -> None:
    draw(Path("photo.png"))
    done = clippy("segment", "photo.png", "-l", "violin", "--background", "sky|grass", "--json", *SMALL)
    labels = json.loads(done.out)["images"][0]["labels"]
    assert [label["name"] for label in labels] == ["background", "violin"]
    assert labels[0]["pixels"] > labels[1]["pixels"]


def test_windows_look_closer_and_keep_the_size(clippy: Any, draw: Draw) -> None:
    draw(Path("photo.png"))
    whole = clippy("segment", "photo.png", "-l", "sky,grass", "--size", "128", "-o", "whole", "--save", "labelmap,json")
    windows = ["--window", "64", "--stride", "32", "-o", "windows", "--save", "labelmap,json"]
    closer = clippy("segment", "photo.png", "-l", "sky,grass", "--size", "128", *windows)
    assert (whole.code, closer.code) == (0, 0)
    assert _label_map("windows/photo.labels.png").shape == (80, 120)
    summaries = [json.loads(Path(folder, "photo.json").read_text()) for folder in ("whole", "windows")]
    assert summaries[0]["labels"] != summaries[1]["labels"]


def test_size_changes_what_the_model_sees_and_not_what_comes_out(clippy: Any, draw: Draw) -> None:
    draw(Path("photo.png"))
    for size in ("64", "160"):
        assert clippy("segment", "photo.png", "-l", "sky,grass", "--size", size, "-o", size).code == 0
    assert _label_map("64/photo.labels.png").shape == _label_map("160/photo.labels.png").shape == (80, 120)
    first, second = (json.loads(Path(size, "photo.json").read_text())["labels"] for size in ("64", "160"))
    assert first != second


def test_what_was_decided_for_the_user_is_a_warning(clippy: Any, draw: Draw) -> None:
    frames = [Image.new("RGB", (60, 40), colour) for colour in ("navy", "olive", "navy")]
    frames[0].save("moving.gif", save_all=True, append_images=frames[1:])
    done = clippy("-q", "segment", "moving.gif", "-l", "sky,grass", *SMALL)
    assert done.code == 0
    assert done.err == "warning: moving.gif: animation: the first of 3 frames is used\n"


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        pytest.param("🐶|puppy,🌱", ["🐶", "🌱"], id="emoji"),
        pytest.param("犬,草", ["犬", "草"], id="Chinese"),
        pytest.param('"salt, pepper",plate', ["salt, pepper", "plate"], id="comma in quotes"),
        pytest.param("  tall   grass ,sky", ["tall grass", "sky"], id="spaces"),
        pytest.param("[bold]dog[/bold],:dog:,[/]", ["[bold]dog[/bold]", ":dog:", "[/]"], id="markup"),
        pytest.param("../../evil,/etc/passwd,-rf", ["../../evil", "/etc/passwd", "-rf"], id="paths"),
        pytest.param("a" * 500 + ",b", ["a" * 500, "b"], id="500 characters"),
        pytest.param("e\u0301clair,\u200dsky", ["e\u0301clair", "\u200dsky"], id="combining and joining"),
    ],
)
def test_any_label_text_is_shown_as_it_is_and_stays_in_the_output_folder(
    clippy: Any, draw: Draw, labels: str, names: list[str]
) -> None:
    draw(Path("photo.png"))
    before = {path for path in Path().rglob("*") if path.is_file()}
    done = clippy("segment", "photo.png", f"--labels={labels}", "--save", "overlay,labelmap,json,masks", *SMALL)
    assert done.code == 0
    summary = json.loads(Path("clippy-out/photo.json").read_text(encoding="utf-8"))
    assert [label["name"] for label in summary["labels"]] == names
    shown = re.sub(r"\s+", "", done.out)
    assert all(name.replace(" ", "") in shown for name in names if len(name) < 60)
    outside = {path for path in Path().rglob("*") if path.is_file()} - before
    assert all(path.parts[0] == "clippy-out" and len(path.parts) == 2 for path in outside)
