"""What other packages add is listed and works; what is broken in them is named and harms nothing else."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clippy_cli.main import BUG, DATA, DONE, USAGE

ADDED = {
    ("command", "hello"),
    ("command", "tools"),
    ("command", "boom"),
    ("model", "theirs"),
    ("benchmark", "their-benchmark"),
    ("exporter", "their-exporter"),
    ("writer", "their-writer"),
}
BUILT_IN = {
    ("command", "segment"),
    ("command", "plugins"),
    ("model", "clippy-lite"),
    ("benchmark", "points"),
    ("exporter", "safetensors"),
    ("writer", "overlay"),
}
NOT_LOADED = "plug-in '{}' of package 'broken-clippy' cannot be loaded: "
NOT_USABLE = "plug-in '{}' of package 'broken-clippy' cannot be used: "
NO_MODEL = "model '{}' of package 'broken-clippy' "
BROKEN = {
    "torn": NOT_LOADED + r"ImportError: libtorn.so is missing",
    "not-there": NOT_LOADED + r"AttributeError: module 'broken_clippy' has no attribute 'gone'",
    "no-benchmark": NOT_LOADED + r"AttributeError: module 'broken_clippy' has no attribute 'nothing'",
    "a-number": NOT_USABLE + r"broken_clippy:NUMBER is of type int; a command is a function",
    "exporter-number": NOT_USABLE + r"broken_clippy:NUMBER is of type int; an exporter is a function",
    "writer-number": NOT_USABLE + r"broken_clippy:NUMBER is of type int; a writer is a function",
    "model-number": NOT_USABLE + r"broken_clippy:NUMBER is of type int; a model is a function",
    "no-preset": NO_MODEL + r"is a dict, not a Preset",
    "failing": NO_MODEL + r"failed: OSError: their disk is gone",
}


@pytest.fixture
def hello(process: Callable[..., Any], third_party: Any) -> Callable[..., Any]:
    """The command where the good package is installed."""
    return lambda *args, **more: process(*args, env=third_party.path("hello-clippy"), **more)


def test_plugins_lists_what_another_package_adds_under_its_name(hello: Any) -> None:
    done = hello("plugins", "--json")
    assert (done.code, done.err) == (DONE, "")
    rows = json.loads(done.out)["plugins"]
    assert {(row["kind"], row["name"]) for row in rows if row["package"] == "hello-clippy"} == ADDED
    assert {(row["kind"], row["name"]) for row in rows if row["package"] == "clippy-vlm"} >= BUILT_IN
    assert [row["error"] for row in rows if row["error"]] == []


def test_plugins_prints_a_table_of_kinds_names_and_packages(hello: Any) -> None:
    done = hello("plugins")
    assert (done.code, done.err) == (DONE, "")
    lines = [line.split() for line in done.out.splitlines()]
    assert ["kind", "name", "package", "what", "it", "is"] in lines
    assert ["hello", "hello-clippy", "from", "hello_clippy:hello"] in lines
    assert ["theirs", "hello-clippy", "from", "hello_clippy:model"] in lines
    assert sum(line[:1] == ["writer"] for line in lines) == 1, "a kind is named once"


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["hello"], "hello world\n"),
        (["hello", "--name", "you", "--loud"], "HELLO YOU\n"),
        (["tools", "count", "a", "b", "c"], "3\n"),
        (["-q", "tools", "count", "-h"], None),
        (["--help"], None),
    ],
)
def test_a_command_of_another_package_runs(hello: Any, args: list[str], expected: str | None) -> None:
    done = hello(*args)
    assert (done.code, done.err) == (DONE, "")
    if expected is None:
        assert ("Count words." if "tools" in args else "(from package hello-clippy)") in done.out
    else:
        assert done.out == expected


def test_an_error_of_a_command_of_another_package_is_one_line(hello: Any) -> None:
    assert hello("tools", "give-up") == (DATA, "", "error: hello-clippy: nothing to count\n")
    assert hello("tools", "cuont") == (USAGE, "", "error: clippy tools has no command 'cuont'; did you mean count?\n")


def test_a_bug_of_another_package_shows_its_traceback_and_what_to_report(hello: Any) -> None:
    done = hello("boom")
    assert (done.code, done.out) == (BUG, "")
    first, *_, cause, last = done.err.splitlines()
    assert first == "Traceback (most recent call last):"
    assert "in boom" in done.err
    assert cause == "RuntimeError: the bottom of the sea"
    assert re.fullmatch(r"error: this is a bug in clippy or in a plug-in; please .* \(clippy [\d.]+, Python .*\)", last)


def test_model_writer_benchmark_and_exporter_of_another_package_do_their_work(
    third_party: Any, clippy_environment: dict[str, str], draw: Callable[..., Path], tmp_path: Path
) -> None:
    draw(tmp_path / "data" / "photo.jpg")
    lines = [
        ["segment", "data/photo.jpg", "-l", "sky,grass", "-m", "theirs", "--save", "their-writer,json", "--size", "64"],
        ["eval", "their-benchmark", "--data", "data", "-m", "theirs", "--size", "64", "--limit", "5"],
        ["export", "their-exporter", "-m", "theirs"],
        ["models", "info", "theirs", "--json"],
    ]
    # One process for all four: it is torch that takes long.
    script = f"from clippy_cli.main import run\nfor line in {lines!r}: print('exit code', run(line), flush=True)"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=clippy_environment | third_party.path("hello-clippy"),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert "Traceback" not in done.stderr
    assert re.findall(r"exit code (\d+)", done.stdout) == ["0", "0", "0", "0"]
    assert (tmp_path / "clippy-out/photo.names.txt").read_text() == "sky,grass"
    assert json.loads((tmp_path / "clippy-out/photo.json").read_text())["model"] == "theirs"
    report = json.loads((tmp_path / "clippy-out/eval.json").read_text())
    assert report["metrics"] == {"pictures": 1.0}
    assert report["protocol"] == {"model": "theirs"}
    assert re.search(r"photo.jpg +[12] *\n", done.stdout)
    assert int((tmp_path / "clippy-export/size.txt").read_text()) > 10_000_000
    assert '"package": "hello-clippy"' in done.stdout


def test_broken_plugins_are_named_in_warnings_and_harm_nothing(process: Any, third_party: Any) -> None:
    environment = third_party.path("broken-clippy", "hello-clippy")
    done = process("plugins", env=environment)
    assert done.code == DONE
    warnings = done.err.splitlines()
    assert len(warnings) == len(BROKEN)
    for name, expected in BROKEN.items():
        assert any(re.fullmatch("warning: " + expected.format(name), line) for line in warnings), name
        assert re.search(rf"^.* {name} +broken-clippy +cannot be used *$", done.out, re.MULTILINE)
    assert process("hello", env=environment) == (DONE, "hello world\n", "")


@pytest.mark.parametrize(
    ("args", "name"),
    [
        (["torn"], "torn"),
        (["not-there"], "not-there"),
        (["a-number"], "a-number"),
        (["segment", "photo.jpg", "-l", "dog", "--save", "writer-number"], "writer-number"),
        (["eval", "no-benchmark", "--data", "."], "no-benchmark"),
        (["export", "exporter-number"], "exporter-number"),
        (["models", "info", "no-preset"], "no-preset"),
    ],
)
def test_using_a_broken_plugin_is_an_error_that_names_the_package(
    process: Any, third_party: Any, args: list[str], name: str
) -> None:
    done = process(*args, env=third_party.path("broken-clippy"))
    assert (done.code, done.out) == (USAGE, "")
    assert re.fullmatch("error: " + BROKEN[name].format(name) + "\n", done.err)


def test_models_lists_the_others_beside_a_broken_one(process: Any, third_party: Any) -> None:
    done = process("models", env=third_party.path("broken-clippy", "hello-clippy"))
    assert done.code == DONE
    for row in (
        r"clippy-lite +\d+\.\d MB .* clippy-vlm",
        r"theirs +\d+\.\d MB +\d+\.\d M +\d+ +a model of another package .* hello-clippy",
        r"failing +– +– +– +cannot be used +broken-clippy",
    ):
        assert re.search(rf"^ *{row} *$", done.out, re.MULTILINE)
    assert done.err.count("warning: ") == 3


def test_a_name_claimed_twice_is_an_error_naming_both_and_the_rest_works(process: Any, third_party: Any) -> None:
    environment = third_party.path("clash-clippy")
    both = r"is registered by 'clippy-vlm' \(.*\) and 'clash-clippy' \(clash_clippy:command\); uninstall one of them\n"
    for args, subject in (
        (["models"], "command 'models'"),
        (["segment", "photo.jpg", "-l", "dog", "--save", "json,masks"], "writer 'masks'"),
        (["eval", "points", "--data", "."], "benchmark 'points'"),
    ):
        done = process(*args, env=environment)
        assert (done.code, done.out) == (USAGE, "")
        assert re.fullmatch(f"error: {subject} {both}", done.err)
    done = process("plugins", env=environment)
    assert done.code == DONE
    assert len(done.err.splitlines()) == 3
    assert done.out.count("cannot be used") == 6
    assert "(unusable: registered by clippy-vlm and clash-clippy)" in process("--help", env=environment).out
    assert process("export", "nonsense", env=environment).code == USAGE
