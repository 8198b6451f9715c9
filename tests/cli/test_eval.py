"""``clippy eval``."""

import csv
import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clippy_cli.measuring import read_calibration, read_options
from clippy_cli.scores import Measuring
from clippy_core import events
from clippy_core.errors import UsageError

SMALL = ["--size", "64"]
USAGE, DATA, MISSING = 2, 4, 5
FOLDER = ["eval", "folder", "--data", "meadows"]

Draw = Callable[..., Path]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def points(draw: Draw) -> Path:
    """Two photographs with points, in the layout of the points benchmark."""
    photographs = []
    for name in ("one", "two"):
        draw(Path("data", f"{name}.png"))
        marks = [{"x": 0.9, "y": 0.1, "label": "sky"}, {"x": 0.9, "y": 0.9, "label": "grass"}]
        photographs.append({"id": name, "points": marks, "candidates": ["sky", "grass"]})
    Path("data/points.json").write_text(json.dumps({"photographs": photographs}))
    return Path("data")


@pytest.fixture
def meadows(draw: Draw) -> Path:
    """Four pictures of a meadow under a sky, with masks and, as one object each, the meadow."""
    for number in range(4):
        draw(Path(f"meadows/images/{number}.png"))
        mask_HW = np.zeros((80, 120), np.uint8)
        mask_HW[40:] = 1
        for kind in ("masks", "instances"):
            Path(f"meadows/{kind}").mkdir(exist_ok=True)
            Image.fromarray(mask_HW).save(f"meadows/{kind}/{number}.png")
    Path("meadows/labels.txt").write_text("sky\ngrass|lawn\n")
    return Path("meadows")


def test_prints_a_table_and_writes_every_choice(clippy: Any, points: Path) -> None:
    done = clippy("eval", "points", "--data", points, "--out", "out", "--template", "{}", "--limit", "1", *SMALL)
    assert done.code == 0
    assert done.err == "wrote out/eval.json, out/eval.md, out/eval.tex\n"
    assert re.search(r"^ *metric +value *$", done.out, re.MULTILINE)
    document = json.loads(Path("out/eval.json").read_text())
    assert document["benchmark"] == "points"
    assert document["protocol"]["size"] == 64
    assert document["protocol"]["templates"] == ["{}"]
    assert document["protocol"]["photographs"] == 1
    assert document["protocol"]["model"] == "clippy-lite"
    for name, value in document["metrics"].items():
        assert re.search(rf"^ *{re.escape(name)} +{value:.4g} *$", done.out, re.MULTILINE)


def test_shows_text_of_the_data_as_it_is(clippy: Any, points: Path, draw: Draw) -> None:
    index = json.loads((points / "points.json").read_text())
    index["photographs"][0] |= {"id": ":dog:", "candidates": ["sky", "grass", "[/]"]}
    draw(points / ":dog:.png")
    (points / "points.json").write_text(json.dumps(index))
    done = clippy("eval", "points", "--data", points, *SMALL)
    assert done.code == 0
    assert re.search(r"^ *:dog: +[012] / 2 *$", done.out, re.MULTILINE)


@pytest.mark.parametrize(
    ("args", "file"),
    [(["--json"], "eval.json"), (["--format", "json"], "eval.json"), (["--format", "latex"], "eval.tex"),
     (["--format", "markdown"], "eval.md")],
)  # fmt: skip
def test_prints_what_it_writes_in_the_format_that_was_asked_for(
    clippy: Any, points: Path, args: list[str], file: str
) -> None:
    points.joinpath("one.png").rename(points / ":dog:.png")
    index = points / "points.json"
    index.write_text(index.read_text().replace('"one"', '":dog:"'))
    done = clippy("eval", "points", "--data", points, "-q", *args, *SMALL)
    assert (done.code, done.err) == (0, "")
    written = Path("clippy-out", file).read_text()
    if file.endswith("json"):
        assert json.loads(done.out) == json.loads(written)
    else:
        assert done.out == written


def test_csv_has_a_row_a_class(clippy: Any, meadows: Path) -> None:
    done = clippy(*FOLDER, "--format", "csv", "-q", *SMALL)
    assert [row["class"] for row in csv.DictReader(done.out.splitlines())] == ["sky", "grass"]


def test_measures_labels_and_groups_with_every_file(clippy: Any, meadows: Path) -> None:
    done = clippy(
        *FOLDER, "--metric", "both", "--groups", "2", "--worst", "1", "--cache", "kept", "--plots", "--out", "o", *SMALL
    )  # fmt: skip
    assert done.code == 0, done.err
    document = json.loads(Path("o/eval.json").read_text())
    assert document["protocol"]["protocol"] == "paper"
    assert document["protocol"]["grouping"] == {"method": "pca", "groups": 2, "seed": 0}
    assert document["metrics"]["objects"] == 4
    assert 0 < document["metrics"]["JS"] <= 1
    counts_CC = np.array(document["confusion"])
    assert counts_CC.sum() == 4 * 80 * 120
    union_C = counts_CC.sum(1) + counts_CC.sum(0)[:2] - np.diagonal(counts_CC)
    assert document["metrics"]["mIoU"] == pytest.approx((np.diagonal(counts_CC) / union_C).mean())
    rows = list(csv.DictReader(Path("o/images.csv").read_text().splitlines()))
    assert [row["picture"] for row in rows] == ["0", "1", "2", "3"]
    assert [path.suffix for path in Path("o/worst").iterdir()] == [".png"]
    assert f", o/images.csv, {next(Path('o/worst').iterdir())}\n" in done.err
    for name in ("classes.png", "confusion.png"):
        with Image.open(Path("o", name)) as picture:
            assert picture.width > 400
        assert f"o/{name}" in done.err
    kept = {path: path.stat().st_mtime_ns for path in Path("kept").iterdir()}
    assert len(kept) > 4
    again = clippy(*FOLDER, "--metric", "bottom-up", "--groups", "2", "--cache", "kept", "--out", "p", "--json", *SMALL)
    assert json.loads(again.out)["metrics"]["JS"] == document["metrics"]["JS"]
    assert {path: path.stat().st_mtime_ns for path in Path("kept").iterdir()} == kept


def choices(clippy: Any, *args: str) -> dict[str, Any]:
    """The protocol that a command line says it used."""
    done = clippy(*FOLDER, "--json", "-q", *args)
    assert done.code == 0, done.err
    return json.loads(done.out)["protocol"]


def test_what_is_typed_goes_before_the_protocol(clippy: Any, meadows: Path) -> None:
    (meadows / "labels.txt").write_text("background|sky\ngrass|lawn\n")
    found = choices(clippy, "--protocol", "sclip", "--limit", "1", "--window", "64", "--background", "none", *SMALL)
    assert (found["protocol"], found["size"], found["synonyms"]) == ("sclip", 64, True)
    assert (found["windows"], found["background"], found["limit"]) == ({"window": 64, "stride": 32}, "none", "none")
    assert set(found["changed"]) == {"background", "limit", "size", "sizes", "windows"}
    assert found["templates"] == "openai-80"
    found = choices(clippy, "--limit", "1", "--templates", "openai", "--synonyms", "--background", "sky|cloud", *SMALL)
    assert (found["templates"], found["synonyms"], found["background"]) == ("openai-80", True, ["sky", "cloud"])
    found = choices(clippy, "--calibrate", "margin=0,2@0.5", *SMALL)
    assert found["calibration"]["pictures"] == 2
    assert set(found["calibration"]["mIoU by limit"]) == {"0", "2"}
    assert found["pictures"] == 2


def test_a_protocol_that_was_asked_for_is_printed(clippy: Any, meadows: Path) -> None:
    done = clippy(*FOLDER, "--protocol", "paper", "-q", *SMALL)
    assert re.search(r"^ *choice +value *$", done.out, re.MULTILINE)
    assert re.search(r"^ *synonyms +no *$", done.out, re.MULTILINE)
    assert "choice" not in clippy(*FOLDER, "-q", *SMALL).out


def test_groups_by_other_means(clippy: Any, meadows: Path) -> None:
    found = [
        choices(clippy, "--metric", "bottom-up", "--grouping", "kmeans", "--groups", "3", "--limit", "1", *SMALL),
        choices(clippy, "--metric", "bottom-up", "--limit", "1", *SMALL),
    ]
    assert [one["grouping"]["method"] for one in found] == ["kmeans", "pca"]
    assert [one["grouping"]["groups"] for one in found] == [3, 8]


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        ([*FOLDER, "--format", "yaml"], USAGE, r"--format is 'yaml'; accepted: table, markdown, latex, csv, json"),
        ([*FOLDER, "--json", "--format", "latex"], USAGE, r"--json and --format latex exclude each other"),
        ([*FOLDER, "--protocol", "papr"], USAGE, r"--protocol is 'papr'; accepted: paper, kahnchana, "),
        ([*FOLDER, "--metric", "miou"], USAGE, r"--metric is 'miou'; accepted: top-down, bottom-up, both"),
        ([*FOLDER, "--grouping", "pca"], USAGE, r"--grouping and --groups need --metric bottom-up or both"),
        ([*FOLDER, "--metric", "both", "--groups", "1"], USAGE, r"--groups is 1; accepted: 2 to "),
        ([*FOLDER, "--metric", "both", "--grouping", "k"], USAGE, r"--grouping is 'k'; accepted: pca, kmeans, spec"),
        ([*FOLDER, "--classes", "0"], USAGE, r"--classes is 0; accepted: 1 or more"),
        ([*FOLDER, "--worst", "-1"], USAGE, r"--worst is -1; accepted: 0 or more"),
        ([*FOLDER, "--templates", "ours"], USAGE, r"--templates is 'ours'; accepted: openai, paper, or"),
        ([*FOLDER, "--templates", "paper", "--template", "{}"], USAGE, r"--templates names .*; leave one of them out"),
        ([*FOLDER, "--calibrate", "0.1,0.2"], USAGE, r"--calibrate is '0.1,0.2'; accepted: KIND=V,V,"),
        ([*FOLDER, "--calibrate", "cosine=0.1"], USAGE, r"--calibrate: 'cosine' is unknown; accepted: threshold, "),
        ([*FOLDER, "--calibrate", "margin=0", "--background", "none"], USAGE, r"--calibrate chooses the limit"),
        ([*FOLDER, "--metric", "bottom-up", "--plots"], USAGE, r"--plots draws figures by class, which"),
        ([*FOLDER, "--cache", "meadows/labels.txt"], USAGE, r"--cache meadows/labels.txt: is a file"),
        ([*FOLDER, "--procs", "0"], USAGE, r"--procs is 0; accepted: 1 or more"),
        ([*FOLDER, "--procs", "2", "--gpus", "2"], USAGE, r"--gpus and --procs exclude each other"),
        ([*FOLDER, "--procs", "2", "--device", "cuda"], USAGE, r"--procs 2 computes on cpu; leave --device cuda out"),
        ([*FOLDER, "--gpus", "99"], MISSING, r"--gpus 99: (no|\d+) GPUs? w\w+ found on this machine; --device cpu"),
        ([*FOLDER, "--stride", "3"], USAGE, r"--stride needs --window"),
        (["eval", "points", "--data", "meadows", "--worst", "3"], USAGE, r"--worst: means nothing to .* 'points'"),
        (["eval", "points", "--data", "meadows", "--procs", "2"], USAGE, r"'points' is measured by one process"),
        (["eval", "shapes", "--protocol", "paper"], USAGE, r"--protocol: means nothing to benchmark 'shapes'"),
        (["eval", "imagenet", "--data", "meadows", "--metric", "both"], USAGE, r"--metric: means nothing .*imagenet"),
        (["eval", "voc", "--data", "meadows"], DATA, r"meadows: not laid out as PASCAL VOC 2012\W.*found: images/"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)  # fmt: skip
def test_mistakes(clippy: Any, meadows: Path, args: list[str], code: int, message: str) -> None:
    done = clippy(*args)
    assert (done.code, done.out) == (code, "")
    assert re.fullmatch(rf"error: .*{message}.*\n", done.err)
    assert not Path("clippy-out").exists()


def test_a_mistake_is_found_before_torch_is_imported(meadows: Path, clippy_environment: dict[str, str]) -> None:
    code = "import sys; from clippy_cli.main import run; print(run(sys.argv[1:]), 'torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code, *FOLDER, "--protocol", "sclip", "--groups", "9"],
        capture_output=True, text=True, env=clippy_environment, timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout == "2 False\n"


def test_every_process_gets_what_was_typed_and_nothing_else(
    clippy: Any, meadows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launched: dict[str, Any] = {}

    def launch(arguments: list[str], **more: Any) -> int:
        launched.update(more, arguments=arguments)
        return 7

    monkeypatch.setattr("clippy_core.launch.launch", launch)
    typed = ["--template", "{}", "--template", "a {}", "--no-synonyms", "--json", "--calibrate", "threshold=-0.1,0"]
    done = clippy("-q", "--no-color", *FOLDER, "--procs", "3", "-o", "out", *typed)
    assert (done.code, done.out, done.err) == (7, "", "")
    assert launched["processes"] == 3
    name, *options = launched["arguments"]
    assert name == "eval"
    assert sorted(options) == sorted(
        ["--template={}", "--template=a {}", "--no-synonyms", "--json", "--calibrate=threshold=-0.1,0", "--procs=3",
         "--out=out", "--data=meadows", "-q", "--no-color", "--", "folder"]
    )  # fmt: skip
    assert options[-2:] == ["--", "folder"]


def test_ctrl_c_in_several_processes_says_how_to_go_on(
    clippy: Any, meadows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clippy_core.launch.launch", lambda *_, **__: 130)
    done = clippy(*FOLDER, "--procs", "2")
    assert (done.code, done.out) == (130, "")
    assert done.err == "error: interrupted; the same command again goes on where this one stopped\n"
    assert clippy("eval", "shapes", "--procs", "2").err == "error: interrupted\n"


def test_pictures_that_cannot_be_used_are_exit_3(clippy: Any, draw: Draw) -> None:
    for name in ("sky/1.png", "sky/2.png", "grass/1.png"):
        draw(Path("classes", name))
    Path("classes/sky/2.png").write_bytes(b"no picture")
    done = clippy("eval", "image-folder", "--data", "classes", "--out", "out", *SMALL)
    assert done.code == 3
    assert done.err.endswith("warning: pictures that could not be used and are not counted: 1; images.csv names them\n")
    assert json.loads(Path("out/eval.json").read_text())["metrics"]["pictures"] == 2


def test_interrupted_it_goes_on(clippy: Any, meadows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = json.loads(clippy(*FOLDER, "--json", "--out", "whole", *SMALL).out)
    hear = Measuring.__call__

    def stop_after_two(self: Measuring, event: events.Event) -> None:
        hear(self, event)
        heard.append(event)
        if isinstance(event, events.ItemFinished) and sum(isinstance(one, events.ItemFinished) for one in heard) == 2:
            raise KeyboardInterrupt

    heard: list[events.Event] = []
    monkeypatch.setattr(Measuring, "__call__", stop_after_two)
    done = clippy(*FOLDER, "--out", "out", *SMALL)
    assert (done.code, done.out) == (130, "")
    assert done.err == "error: interrupted; the same command again goes on where this one stopped\n"
    monkeypatch.setattr(Measuring, "__call__", hear)
    again = json.loads(clippy(*FOLDER, "--json", "--out", "out", *SMALL).out)
    assert again["timing"]["pictures"] == 2
    for part in ("metrics", "confusion", "rows", "protocol"):
        assert again[part] == whole[part]


def test_asked_to_end_it_keeps_what_it_counted(
    clippy: Any, meadows: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def end(self: Measuring, event: events.Event) -> None:
        if isinstance(event, events.ItemFinished):
            signal.raise_signal(signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        patch.setattr(Measuring, "__call__", end)
        with pytest.raises(SystemExit) as ended:
            clippy(*FOLDER, "--out", "out", *SMALL)
    assert ended.value.code == 128 + signal.SIGTERM
    said = "error: ended by SIGTERM; the same command again goes on where this one stopped\n"
    assert capsys.readouterr().err == said
    assert signal.getsignal(signal.SIGTERM) == before
    again = json.loads(clippy(*FOLDER, "--json", "--out", "out", *SMALL).out)
    assert again["timing"]["pictures"] == 3


def test_overwrite_begins_again(clippy: Any, meadows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(self: Measuring, event: events.Event) -> None:
        if isinstance(event, events.ItemFinished):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Measuring, "__call__", stop)
        assert clippy(*FOLDER, "--out", "out", *SMALL).code == 130
    assert any(Path("out/progress").iterdir())
    again = json.loads(clippy(*FOLDER, "--json", "--out", "out", "--overwrite", *SMALL).out)
    assert again["timing"]["pictures"] == 4


def test_plots_without_matplotlib(clippy: Any, meadows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    done = clippy(*FOLDER, "--plots", *SMALL)
    assert (done.code, done.out) == (MISSING, "")
    assert re.fullmatch(r'error: --plots needs matplotlib .*; pip install "clippy-vlm\[plots\]"\n', done.err)


@pytest.mark.parametrize(
    ("text", "kind", "values", "share"),
    [
        ("threshold=0.1,0.2", "threshold", (0.1, 0.2), 0.1),
        ("margin=0:0.3:0.1@0.25", "margin", (0.0, 0.1, 0.2, 0.3), 0.25),
        ("softmax=0.5", "softmax", (0.5,), 0.1),
        ("threshold=-0.2:0:0.15", "threshold", (-0.2, -0.05), 0.1),
    ],
)
def test_limits_to_try(text: str, kind: str, values: tuple[float, ...], share: float) -> None:
    found = read_calibration(text)
    assert (found.kind, found.values, found.share) == (kind, values, share)


@pytest.mark.parametrize("text", ["", "threshold", "threshold=", "margin=1:0:0.1", "margin=0:1:0", "softmax=a", "x=0@"])
def test_limits_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match=r"--calibrate is '.*'; accepted: "):
        read_calibration(text)


def test_what_was_not_typed_is_left_to_the_protocol() -> None:
    chosen = read_options("voc", {}, limit=None, out=Path("o"), picture=(None, None, None, None))
    assert (chosen.protocol, chosen.split, chosen.classes, chosen.overrides) == (None, None, None, {})
    assert (chosen.cache, chosen.worst, chosen.calibrate, chosen.out) == (None, 0, None, Path("o"))
