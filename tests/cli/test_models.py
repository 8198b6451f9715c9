"""``clippy models`` and ``clippy export``."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clippy_core.model.presets import find

SMALL = ["--size", "64"]
FACTS = [
    "name",
    "description",
    "quality",
    "licence",
    "parameters",
    "source",
    "directory",
    "on_disk",
    "bytes",
    "package",
]

Draw = Callable[..., Path]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled model as a directory of its own, made by the command."""
    from clippy_cli.main import run

    folder = tmp_path_factory.mktemp("exported") / "model"
    assert run(["-q", "export", "safetensors", "--out", str(folder), "--json"]) == 0
    return folder


@pytest.mark.parametrize("args", [["models"], ["models", "list"]], ids=" ".join)
def test_models_lists_what_is_on_disk_and_under_which_licence(clippy: Any, args: list[str]) -> None:
    done = clippy(*args)
    assert (done.code, done.err) == (0, "")
    heading = next(line for line in done.out.splitlines() if line.strip())
    assert re.split(r" {2,}", heading.strip()) == [
        "model",
        "on disk",
        "parameters",
        "pixels",
        "what it is",
        "licence",
        "package",
    ]
    for line in (
        r"clippy-lite +\d\d\.\d MB +28\.0 M +256 +\S.* Apache-2.0 +clippy-vlm",
        r"clippy-B-14-dinov2 +– +196\.8 M +448 +\S.* clippy-vlm",
    ):
        assert re.search(rf"^ *{line} *$", done.out, re.MULTILINE), line


def test_models_as_json_has_one_entry_a_model(clippy: Any) -> None:
    done = clippy("models", "list", "--json")
    assert clippy("models", "--json").out == done.out
    models = {model["name"]: model for model in json.loads(done.out)["models"]}
    assert models["clippy-lite"]["on_disk"] is True
    assert models["clippy-lite"]["error"] is None
    assert 20e6 < models["clippy-lite"]["bytes"] < 45e6


def test_info_says_everything_in_words(clippy: Any) -> None:
    done = clippy("models", "info", "clippy-lite")
    assert (done.code, done.err) == (0, "")
    for line in (
        r"name +clippy-lite",
        r"parameters +\d\d,\d{3},\d{3}",
        r"picture size +\d+ pixels on the short side",
        r"on disk +yes",
        r"size on disk +\d\d\.\d MB",
        r"package +clippy-vlm",
    ):
        assert re.search(rf"^{line} *$", done.out, re.MULTILINE), line


def test_info_of_a_directory_is_that_of_the_model_in_it(clippy: Any, exported: Path) -> None:
    bundled = json.loads(clippy("models", "info", "clippy-lite", "--json").out)
    other = json.loads(clippy("models", "info", exported, "--json").out)
    assert set(FACTS) <= set(bundled)
    assert set(other) == set(bundled)
    for fact in ("name", "parameters", "licence", "templates", "size"):
        assert other[fact] == bundled[fact]
    assert other["directory"] == str(exported)
    assert other["package"] == ""
    assert other["bytes"] > 2 * bundled["bytes"], "full precision"


def test_an_exported_model_segments_as_the_bundled_one_does(clippy: Any, draw: Draw, exported: Path) -> None:
    draw(Path("photo.png"))
    line = [
        "segment",
        "photo.png",
        "-l",
        "sky,grass|lawn,dog",
        "--save",
        "labelmap,json",
        "--background",
        "margin=0.01",
    ]
    assert clippy(*line, "-o", "a").code == 0
    done = clippy(*line, "-o", "b", "--model", exported)
    assert (done.code, "warning" in done.err) == (0, False)
    first, second = (np.asarray(Image.open(Path(folder, "photo.labels.png"))) for folder in "ab")
    assert np.array_equal(first, second)
    assert len(np.unique(first)) > 1
    documents = [json.loads(Path(folder, "photo.json").read_text()) for folder in "ab"]
    assert documents[0]["labels"] == documents[1]["labels"]


def test_export_names_the_files_it_wrote(clippy: Any) -> None:
    done = clippy("export", "safetensors", "--out", "mine")
    assert (done.code, done.err) == (0, "")
    names = ["config.json", "model.safetensors", "tokenizer.json", "README.md", "manifest.json"]
    assert done.out.splitlines() == [f"mine/{name}" for name in names]
    assert sorted(path.name for path in Path("mine").iterdir()) == sorted(names)


def test_a_flipped_bit_in_an_exported_model_is_one_line(
    clippy: Any, draw: Draw, exported: Path, tmp_path: Path
) -> None:
    draw(Path("photo.png"))
    folder = tmp_path / "damaged"
    folder.mkdir()
    for file in exported.iterdir():
        if file.name != "tokenizer.json":
            (folder / file.name).symlink_to(file)
    content = bytearray((exported / "tokenizer.json").read_bytes())
    content[1000] ^= 1
    (folder / "tokenizer.json").write_bytes(content)
    done = clippy("segment", "photo.png", "-l", "sky", "--model", folder)
    assert (done.code, done.out) == (4, "")
    assert re.fullmatch(r"error: .*/damaged/tokenizer.json: SHA-256 differs from the manifest; .*\n", done.err)


@pytest.mark.parametrize(
    "arguments",
    [
        ["export", "onnx", "--model", "exported", "--out", "again"],
        ["eval", "shapes", "--model", "exported"],
        ["analyze", "features", "p.png", "--model", "exported"],
        ["train", "shapes", "--model", "exported", "--gpus", "0"],
        ["models", "push", "exported", "someone/somewhere"],
        ["segment", "p.png", "-l", "sky", "--model", "exported", "--runtime", "torch"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize(
    ("sheet", "runs"),
    [("onnx.json", "ONNX Runtime runs, here as part of `clippy segment`"), ("torch.json", "torch runs without clippy")],
)
def test_an_exported_model_is_refused_in_words_that_fit_every_command(
    clippy: Any, draw: Draw, tmp_path: Path, arguments: list[str], sheet: str, runs: str
) -> None:
    draw(tmp_path / "p.png")
    (tmp_path / "exported").mkdir()
    (tmp_path / "exported" / sheet).write_text("{}")
    shutil.copyfile(find("clippy-lite") / "config.json", tmp_path / "exported" / "config.json")
    done = clippy(*arguments)
    assert done.code == 4
    assert done.err.splitlines()[-1] == (
        f"error: exported: an exported model, which {runs}; accepted here: a model with weights, such as the one it "
        "was made from"
    )
