"""A user's mistake is one line that says what arrived and what is accepted, and an exit code; never a traceback."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clippy_cli.main import DATA, MISSING, USAGE

Draw = Callable[..., Path]


@pytest.fixture
def workspace(tmp_path: Path, draw: Draw, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Good and bad inputs; the current folder while a test runs."""
    monkeypatch.chdir(tmp_path)
    draw(Path("photo.jpg"))
    whole = Path("photo.jpg").read_bytes()
    Path("cut.jpg").write_bytes(whole[: len(whole) // 2])
    Path("text.jpg").write_text("no picture")
    Path("zero.jpg").touch()
    Path("empty").mkdir()
    Path("lines.txt").write_text("dog\ncat, grass\n")
    Path("blank.txt").write_text("\n  \n")
    Path("latin.txt").write_bytes("dog\nB\u00e4r\n".encode("latin-1"))
    Path("twice.txt").write_text("dog\nDog\n")
    Path("many.txt").write_text("\n".join(f"w{number}" for number in range(65_535)))
    return tmp_path


DOG = ["photo.jpg", "--labels", "dog"]
USAGE_OF_SEGMENT: list[tuple[str, list[str], str]] = [
    ("no input", [], r"error: missing argument 'INPUTS'; see clippy segment --help"),
    ("an empty input, as from an unset variable", ["", "-l", "dog"], r"error: no input was given; accepted: images, "),
    ("no label", ["photo.jpg"], r"error: say what to look for with either --labels .* or --labels-file FILE"),
    ("labels twice", [*DOG, "--labels-file", "lines.txt"], r"either --labels .* or --labels-file"),
    ("empty labels", ["photo.jpg", "-l", ""], r"the label set is empty; give at least one, such as --labels dog,grass"),
    ("an empty label", ["photo.jpg", "-l", "dog,,cat"], r"a label is empty"),
    ("an empty synonym", ["photo.jpg", "-l", "dog|"], r"label 'dog\|' has an empty synonym"),
    ("a label twice", ["photo.jpg", "-l", "dog,cat,DOG"], r"label 'DOG' is repeated"),
    ("a synonym twice", ["photo.jpg", "-l", "dog|dog"], r"label 'dog\|dog' repeats a synonym"),
    ("an endless label", ["photo.jpg", "-l", "a" * 10_000], r"10,000 characters; at most 500 are accepted"),
    (
        "a line break in a label",
        ["photo.jpg", "-l", "a\nb"],
        r"--labels holds several lines; --labels-file FILE reads one label a line",
    ),
    ("an open quote", ["photo.jpg", "-l", '"dog'], r"labels '\"dog' cannot be split at commas"),
    ("a comma in a labels file", ["photo.jpg", "--labels-file", "lines.txt"], r"'lines.txt', line 2: a comma"),
    ("a blank labels file", ["photo.jpg", "--labels-file", "blank.txt"], r"'blank.txt' names no label; one a line"),
    ("a label twice in a file", ["photo.jpg", "--labels-file", "twice.txt"], r"label 'Dog' is repeated"),
    ("65,535 labels", ["photo.jpg", "--labels-file", "many.txt"], r"65,535 labels were given; at most 65,534"),
    ("a model almost right", [*DOG, "-m", "clipy-lite"], r"unknown model 'clipy-lite'; did you mean clippy-lite\b"),
    ("an unknown model", [*DOG, "-m", "resnet"], r"unknown model 'resnet'; known: clippy-lite"),
    ("an unknown writer", [*DOG, "--save", "bitmap"], r"unknown writer 'bitmap'; known: overlay, labelmap, json"),
    ("a writer almost right", [*DOG, "--save", "overlai"], r"unknown writer 'overlai'; did you mean overlay\?"),
    ("an empty writer", [*DOG, "--save", ""], r"--save names no output; known: overlay"),
    ("an empty output folder", [*DOG, "--out", ""], r"--out is empty; accepted: a folder, which is made if it is"),
    ("no writer", [*DOG, "--save", ","], r"--save names no output; known: overlay"),
    ("a template without a place", [*DOG, "--template", "photo"], r"template 'photo' must contain \{\} exactly once"),
    ("a template with two", [*DOG, "--template", "{} {}"], r"template '\{\} \{\}' must contain \{\} exactly once"),
    ("a size of words", [*DOG, "--size", "big"], r"--size is 'big'; accepted: a whole number"),
    ("a size too small", [*DOG, "--size", "8"], r"--size is 8; accepted: 32 to 4096 pixels"),
    ("a size too large", [*DOG, "--size", "5000"], r"--size is 5000; accepted: 32 to 4096 pixels"),
    ("a stride alone", [*DOG, "--stride", "8"], r"--stride needs --window"),
    ("a stride of nothing", [*DOG, "--window", "64", "--stride", "0"], r"--stride is 0; accepted: 1 to .* 64 pixels"),
    ("a stride beyond the window", [*DOG, "--window", "64", "--stride", "65"], r"--stride is 65; accepted: 1 to "),
    ("a window of nothing", [*DOG, "--window", "0"], r"--window is 0; accepted: 1 pixel or more"),
    ("an unknown rule", [*DOG, "--background", "limit=1"], r"rule 'limit=1' is unknown; accepted: none, threshold=T"),
    ("a limit of words", [*DOG, "--background", "threshold=x"], r"'threshold=x': a number from −1 to 1 is expected"),
    ("a limit out of range", [*DOG, "--background", "softmax=2"], r"'softmax=2': a number from 0 to 1 is expected"),
    ("an empty rule", [*DOG, "--background", ""], r"--background is empty; accepted: none, threshold=T"),
    ("a background that is a label", [*DOG, "--background", "dog"], r"label 'dog' is repeated"),
    ("an unknown device", [*DOG, "--device", "nonsense"], r"--device is 'nonsense'; accepted: auto, cpu, cuda, cuda:N"),
    ("a device without a number", [*DOG, "--device", "cuda:x"], r"--device is 'cuda:x'; accepted: auto"),
    ("an unknown precision", [*DOG, "--precision", "fp8"], r"--precision is 'fp8'; accepted: auto, fp32, bf16, fp16"),
    ("fp16 on a CPU", [*DOG, "--device", "cpu", "--precision", "fp16"], r"fp16 needs a GPU; accepted on the CPU: fp32"),
    ("a limit of no pixel", [*DOG, "--max-pixels", "0"], r"--max-pixels is 0; accepted: 1 or more"),
    ("a file as output folder", [*DOG, "--out", "text.jpg"], r"--out text.jpg: text.jpg is a file; accepted: a folder"),
    ("a folder below a file", [*DOG, "--out", "text.jpg/a/b"], r"--out text.jpg/a/b: .*text.jpg is a file; accepted: "),
    ("standard input twice", ["-", "-", "-l", "dog"], r"standard input \(-\) can be read only once"),
    ("an option almost right", ["photo.jpg", "--labls", "dog"], r"no such option: --labls; did you mean --labels or "),
    ("an unknown option", [*DOG, "--xyzzy"], r"no such option: --xyzzy; see clippy segment --help"),
    ("an option without its value", [*DOG, "--size"], r"option '--size' requires an argument"),
]
DATA_OF_SEGMENT: list[tuple[str, list[str], str]] = [
    ("a missing file", ["gone.jpg", "-l", "dog"], r"error: gone.jpg: cannot be read \(No such file or directory\)"),
    ("a missing folder", ["gone/", "-l", "dog"], r"error: gone: cannot be read \(No such file or directory\)"),
    (
        "a folder without pictures",
        ["empty", "-l", "dog"],
        r"error: empty: no picture in this folder \(looked for .*.jpg",
    ),
    ("a pattern without a match", ["*.webp", "-l", "dog"], r"error: \*.webp: no picture matches this pattern"),
    ("a truncated picture", ["cut.jpg", "-l", "dog"], r"error: cut.jpg: damaged or truncated \(.+\)"),
    ("text instead of a picture", ["text.jpg", "-l", "dog"], r"error: text.jpg: not a picture in an accepted format"),
    ("a picture of zero bytes", ["zero.jpg", "-l", "dog"], r"error: zero.jpg: the file is empty"),
    ("a picture too large", [*DOG, "--max-pixels", "100"], r"photo.jpg: 120×80 is 9,600 pixels; the limit is 100"),
    (
        "a missing labels file",
        ["photo.jpg", "--labels-file", "gone.txt"],
        r"labels file 'gone.txt' cannot be read: No ",
    ),
    ("a folder of labels", ["photo.jpg", "--labels-file", "empty"], r"labels file 'empty' cannot be read: Is a direct"),
    ("labels in Latin-1", ["photo.jpg", "--labels-file", "latin.txt"], r"'latin.txt' is not UTF-8 text \(byte 5\)"),
    ("a missing model directory", [*DOG, "-m", "models/mine"], r"model 'models/mine': no such model directory"),
    ("a file as model", [*DOG, "-m", "photo.jpg"], r"model 'photo.jpg': no such model directory"),
    (
        "a folder without a model",
        [*DOG, "-m", "empty"],
        r"manifest.json: cannot be read .* a model directory must have",
    ),
]
ELSEWHERE: list[tuple[str, list[str], int, str]] = [
    (
        "an unknown command",
        ["nonsense"],
        USAGE,
        r"unknown command 'nonsense'; known: segment, train, eval, analyze, export, models, ",
    ),
    ("a command almost right", ["segmnt"], USAGE, r"unknown command 'segmnt'; did you mean segment\?"),
    ("no command", ["-v"], USAGE, r"missing command; see clippy --help"),
    ("an unknown global option", ["--wat"], USAGE, r"no such option: --wat; see clippy --help"),
    (
        "models: an unknown command",
        ["models", "xyzzy"],
        USAGE,
        r"clippy models has no command 'xyzzy'; known: list, info",
    ),
    ("models info: nothing", ["models", "info"], USAGE, r"missing argument 'MODEL'; see clippy models info --help"),
    (
        "models info: unknown",
        ["models", "info", "clippy"],
        USAGE,
        r"unknown model 'clippy'; did you mean clippy-lite\b",
    ),
    (
        "models info: a folder",
        ["models", "info", "empty"],
        DATA,
        r"empty/config.json: cannot be read \(No such file or directory\); a model directory must have it",
    ),
    ("models info: a file", ["models", "info", "photo.jpg"], DATA, r"model 'photo.jpg': no such model directory"),
    ("eval: nothing", ["eval"], USAGE, r"missing argument 'BENCHMARK'; see clippy eval --help"),
    ("eval: no data", ["eval", "points"], USAGE, r"benchmark 'points' needs the folder of its data set"),
    ("eval: data for none", ["eval", "shapes", "--data", "."], USAGE, r"'shapes' makes its own pictures"),
    ("eval: unknown", ["eval", "poins", "--data", "."], USAGE, r"unknown benchmark 'poins'; did you mean points\?"),
    ("eval: no such folder", ["eval", "points", "--data", "gone"], DATA, r"--data gone: no such folder"),
    ("eval: other data", ["eval", "points", "--data", "empty"], DATA, r"empty/points.json: cannot be read \(No such"),
    (
        "eval: no picture",
        ["eval", "points", "--data", ".", "--limit", "0"],
        USAGE,
        r"--limit is 0; accepted: 1 or more",
    ),
    (
        "eval: a file as --out",
        ["eval", "points", "--data", ".", "-o", "cut.jpg"],
        USAGE,
        r"--out cut.jpg: .* is a file",
    ),
    ("eval: an empty --out", ["eval", "points", "--data", ".", "-o", ""], USAGE, r"--out is empty; accepted: a folder"),
    ("train: an empty --out", ["train", "--out", ""], USAGE, r"run.out is ''; accepted: a folder, which is made if"),
    ("export: nothing", ["export"], USAGE, r"missing argument 'FORM'; see clippy export --help"),
    ("export: unknown", ["export", "safetensor"], USAGE, r"unknown exporter 'safetensor'; did you mean safetensors\?"),
    ("export: no model", ["export", "safetensors", "-m", "no/where"], DATA, r"'no/where': no such model directory"),
    ("export: a file as --out", ["export", "safetensors", "-o", "cut.jpg"], USAGE, r"--out cut.jpg: .* is a file; acc"),
    ("plugins: an argument", ["plugins", "all"], USAGE, r"unexpected extra argument"),
]
MISTAKES = [
    *(pytest.param(["segment", *args], USAGE, expected, id=name) for name, args, expected in USAGE_OF_SEGMENT),
    *(pytest.param(["segment", *args], DATA, expected, id=name) for name, args, expected in DATA_OF_SEGMENT),
    pytest.param(
        ["segment", *DOG, "--device", "cuda:99"], MISSING, r"--device cuda:99 cannot be used: ", id="no GPU 99"
    ),
    *(pytest.param(args, code, expected, id=name) for name, args, code, expected in ELSEWHERE),
]


@pytest.mark.usefixtures("workspace")
@pytest.mark.parametrize(("args", "code", "expected"), MISTAKES)
def test_a_mistake_is_one_line_and_an_exit_code(clippy: Any, args: list[str], code: int, expected: str) -> None:
    done = clippy(*args)
    assert done.code == code
    assert done.out == ""
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    assert done.err.endswith("\n")
    assert re.search(expected, done.err)
    assert "Traceback" not in done.err


@pytest.mark.usefixtures("workspace")
@pytest.mark.parametrize(
    "args",
    [
        pytest.param(["segment", *DOG, "--save", "bitmap"], id="before a model is loaded"),
        pytest.param(["segment", "cut.jpg", "-l", "dog"], id="after a model was loaded"),
    ],
)
def test_a_mistake_leaves_no_output_folder(clippy: Any, args: list[str]) -> None:
    before = sorted(Path().iterdir())
    assert clippy(*args).code in (USAGE, DATA)
    assert sorted(Path().iterdir()) == before


@pytest.mark.usefixtures("workspace")
def test_a_mistake_is_said_also_with_quiet_and_json(clippy: Any) -> None:
    done = clippy("-q", "segment", "gone.jpg", "-l", "dog", "--json")
    assert (done.code, done.out) == (DATA, "")
    assert done.err == "error: gone.jpg: cannot be read (No such file or directory)\n"


@pytest.mark.usefixtures("workspace")
def test_an_output_folder_without_permission_is_refused_before_any_work(clippy: Any) -> None:
    Path("locked").mkdir(mode=0o500)
    if os.access("locked", os.W_OK):
        pytest.skip("this user may write everywhere")
    done = clippy("segment", *DOG, "--out", "locked/out")
    assert done.code == USAGE
    assert re.fullmatch(r"error: --out locked/out: .*locked cannot be written to \(permission denied\); .*\n", done.err)


@pytest.mark.usefixtures("workspace")
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder in which even root cannot write")
def test_an_output_that_cannot_be_written_is_no_traceback(clippy: Any) -> None:
    done = clippy("segment", *DOG, "--size", "64", "--out", "/proc/clippy-out")
    assert done.code == DATA
    assert done.err == "error: /proc/clippy-out: No such file or directory\n"
