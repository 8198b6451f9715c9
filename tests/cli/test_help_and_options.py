"""Help without heavy imports, and the global options wherever they stand."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clippy_cli.commands.train import FLAGS
from clippy_core.model.presets import MODELS, get_preset
from clippy_core.training.config import TrainConfig

SMALL = ["--size", "64", "--device", "cpu"]
HEAVY = ["torch", "torchvision", "timm", "transformers", "tokenizers", "numpy", "cv2", "PIL", "numba", "safetensors"]
COMMANDS = ["segment", "eval", "export", "models", "plugins"]

Draw = Callable[..., Path]


@pytest.mark.parametrize(
    "args",
    [["--help"], ["--version"], *([name, "--help"] for name in COMMANDS), ["plugins"], ["models"], ["nonsense"]],
    ids=" ".join,
)
def test_nothing_heavy_is_imported_to_say_what_there_is(clippy_environment: dict[str, str], args: list[str]) -> None:
    script = (
        "import sys; from clippy_cli.main import run; run(sys.argv[1:]);"
        f"print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *args],
        env=clippy_environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0
    assert done.stderr.splitlines()[-1] == "[]"


def test_help_lists_every_command_with_what_it_is_for(process: Any) -> None:
    done = process("--help")
    assert (done.code, done.err) == (0, "")
    for name in COMMANDS:
        assert re.search(rf"^│ {name} +[A-Z][^│]+\. +│$", done.out, re.MULTILINE)
    assert done.out == process().out
    assert done.out == process("-h").out


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_says_every_option_with_a_sentence(clippy: Any, name: str) -> None:
    done = clippy(name, "-h")
    assert (done.code, done.err) == (0, "")
    assert f"Usage: clippy {name} [OPTIONS]" in done.out
    options = re.findall(r"^│ +(--[a-z-]+)(.*)│$", done.out, re.MULTILINE)
    assert {"--json", "--help"} <= {option for option, _ in options}
    assert all(re.search(r"[A-Z][a-z]* ", text) for _, text in options)
    assert "<bool>" not in done.out


def test_help_of_segment_gives_defaults_and_units(clippy: Any) -> None:
    said = " ".join(re.sub(r"[│╭╮╰╯─]", " ", clippy("segment", "--help").out).split())
    for expected in ("clippy-lite", "clippy-out", "auto", "none"):
        assert f"[default: {expected}]" in said
    assert said.count("PIXELS") == 3
    assert said.count("(default: ") >= 4


def test_help_of_train_says_where_a_preset_goes_before_the_default() -> None:
    said = {flag.field: flag.default for flag in FLAGS}
    fields = {
        (table, name): TrainConfig().to_dict()[table][name]
        for model in MODELS.names()
        for table, values in get_preset(model).training.items()
        for name in values
    }
    assert fields
    for (table, name), default in fields.items():
        assert said[f"{table}.{name}"] == f"the preset's, else {default:g}"


@pytest.mark.parametrize("place", ["before", "after", "between"])
def test_quiet_leaves_only_the_result(clippy: Any, draw: Draw, tmp_path: Path, place: str) -> None:
    photo = str(draw(tmp_path / "photo.png"))
    line = ["segment", photo, "-l", "sky,grass", "-o", str(tmp_path / "out"), *SMALL]
    line.insert({"before": 0, "between": 2, "after": len(line)}[place], "-q")
    done = clippy(*line)
    assert (done.code, done.err) == (0, "")
    assert "■ sky" in done.out


@pytest.mark.parametrize("place", ["before", "after"])
def test_verbose_says_how_each_input_went(clippy: Any, draw: Draw, tmp_path: Path, place: str) -> None:
    photos = [str(draw(tmp_path / f"{name}.png")) for name in "ab"]
    line = ["segment", *photos, "-l", "sky,grass", "-o", str(tmp_path / "out"), *SMALL]
    line.insert(0 if place == "before" else len(line), "--verbose")
    done = clippy(*line)
    assert done.code == 0
    # Whichever is written first is told of first.
    lines = sorted(done.err.splitlines()[:2])
    for photo, told in zip(photos, lines, strict=True):
        assert re.fullmatch(rf"ok {re.escape(photo)} \(\d+\.\d\d s\)", told)


def test_quiet_still_says_what_failed(clippy: Any, draw: Draw, tmp_path: Path) -> None:
    good, bad = str(draw(tmp_path / "good.png")), str(tmp_path / "gone.png")
    done = clippy("segment", good, bad, "-l", "sky", "-q", "-o", tmp_path / "out", *SMALL)
    assert done.code == 3
    assert "gone.png" in done.err
    assert " done · " not in done.err


def test_what_one_command_line_chose_does_not_stay_for_the_next(clippy: Any, draw: Draw, tmp_path: Path) -> None:
    line = ["segment", draw(tmp_path / "photo.png"), "-l", "sky", "-o", tmp_path / "out", *SMALL]
    assert clippy("-q", *line).err == ""
    assert "wrote " in clippy(*line).err


def test_after_a_double_dash_everything_is_an_input(
    clippy: Any, draw: Draw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    draw(Path("-q.png"))
    done = clippy("segment", "-l", "sky", "--json", *SMALL, "--", "-q.png")
    assert json.loads(done.out)["images"][0]["image"] == "-q.png"
    assert clippy("segment", "-l", "sky", *SMALL, "--", "-q").err == (
        "error: -q: cannot be read (No such file or directory)\n"
    )


@pytest.mark.parametrize(
    "args",
    [
        ["plugins", "--json"],
        ["models", "--json"],
        ["models", "list", "--json"],
        ["models", "info", "clippy-lite", "--json"],
        ["-v", "plugins", "--json"],
        ["plugins", "--json", "-q"],
    ],
    ids=" ".join,
)
def test_json_is_exactly_one_document_in_ascii(clippy: Any, args: list[str]) -> None:
    done = clippy(*args)
    assert (done.code, done.err) == (0, "")
    assert isinstance(json.loads(done.out), dict)
    assert done.out.isascii()
    assert done.out.endswith("}\n")
