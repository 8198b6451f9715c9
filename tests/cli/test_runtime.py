"""``--runtime``: the same files from both engines, torch left alone by one of them, and mistakes in one line."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from clippy_core.model import runtime

pytest.importorskip("onnxruntime")


@pytest.fixture(autouse=True)
def own(tmp_path, monkeypatch):
    """A cache that nobody else has, also as the environment of a process."""
    monkeypatch.setenv("CLIPPY_CACHE", str(tmp_path / "cache"))
    return {"CLIPPY_CACHE": str(tmp_path / "cache"), "CLIPPY_LABEL_CACHE": "1"}


def test_both_engines_write_the_same(clippy, draw, tmp_path):
    photo = draw(tmp_path / "photo.png")
    found = {}
    for engine in ("onnx", "torch"):
        out = tmp_path / engine
        asked = ("--labels", "sky,grass|lawn,dog", "--background", "margin=0.01", "--device", "cpu")
        done = clippy("segment", photo, *asked, "--runtime", engine, "--out", out)
        assert (done.code, done.err.count("error")) == (0, 0)
        document = json.loads((out / "photo.json").read_text())
        found[engine] = np.asarray(Image.open(out / "photo.labels.png")), document
    (in_onnx_HW, onnx), (in_torch_HW, torch) = found["onnx"], found["torch"]
    assert (in_onnx_HW == in_torch_HW).mean() >= 0.999
    assert [label["name"] for label in onnx["labels"]] == [label["name"] for label in torch["labels"]]
    for ours, theirs in zip(onnx["labels"], torch["labels"], strict=True):
        assert ours["score"] == pytest.approx(theirs["score"], abs=2e-5)
    assert onnx["model"] == torch["model"] == "clippy-lite"


@pytest.mark.parametrize("size", [(2, 150), (150, 6), (40, 900)])
def test_both_engines_take_an_elongated_picture(clippy, tmp_path, size):
    photo = tmp_path / "photo.png"
    Image.linear_gradient("L").resize(size).save(photo)
    found = {}
    for engine in ("onnx", "torch"):
        asked = ("--labels", "sky,grass", "--device", "cpu", "--runtime", engine, "--out", tmp_path / engine)
        assert clippy("segment", photo, *asked, "--save", "labelmap").code == 0
        found[engine] = np.asarray(Image.open(tmp_path / engine / "photo.labels.png"))
    assert found["onnx"].shape == size[::-1]
    assert (found["onnx"] == found["torch"]).mean() >= 0.99


def imported(messages):
    """Top-level packages that a process imported, from what ``PYTHONPROFILEIMPORTTIME`` makes it say."""
    return set(re.findall(r"^import time:.*\|\s+(\w+)$", messages, flags=re.MULTILINE))


@pytest.mark.parametrize(
    "more",
    [
        (),
        ("--runtime", "onnx"),
        ("--runtime", "onnx", "--window", "64", "--stride", "32", "--background", "softmax=0.2"),
    ],
    ids=["auto", "onnx", "windows"],
)
def test_a_process_of_its_own_imports_no_torch(process, own, draw, tmp_path, more):
    draw(tmp_path / "photo.png")
    asked = ("segment", "photo.png", "--labels", "sky,grass", "--device", "cpu", *more)
    done = process(*asked, env=own | {"PYTHONPROFILEIMPORTTIME": "1"})
    assert done.code == 0
    modules = imported(done.err)
    assert {"numpy", "onnxruntime"} <= modules
    assert {"torch", "timm", "transformers", "torchvision", "onnx"} & modules == set()
    assert (tmp_path / "clippy-out/photo.labels.png").exists()


def test_a_folder_and_standard_input(process, own, draw, tmp_path):
    for name in ("a", "b"):
        draw(tmp_path / f"photos/{name}.png")
    asked = ("--labels", "sky,grass", "--runtime", "onnx", "--device", "cpu")
    assert process("segment", "photos", *asked, "--out", "folder", env=own).code == 0
    photo = (tmp_path / "photos/a.png").read_bytes()
    assert process("segment", "-", *asked, "--out", "piped", env=own, stdin=photo).code == 0
    maps = [np.asarray(Image.open(path)) for path in sorted(tmp_path.rglob("*.labels.png"))]
    assert len(maps) == 3
    assert all(np.array_equal(maps[0], other) for other in maps)


def test_words_are_kept_between_runs(process, own, draw, tmp_path):
    draw(tmp_path / "photo.png")
    asked = ("segment", "photo.png", "--labels", "sky,grass", "--runtime", "onnx", "--device", "cpu")
    environment = own | {"PYTHONPROFILEIMPORTTIME": "1"}
    first, second = process(*asked, env=environment), process(*asked, "--overwrite", env=environment)
    assert (first.code, second.code) == (0, 0)
    assert "tokenizers" in imported(first.err)
    assert "tokenizers" not in imported(second.err)


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--runtime", "tensorrt"), 2, "--runtime is 'tensorrt'; accepted: auto, torch, onnx"),
        (("--runtime", "onnx", "--device", "cuda"), 2, "--device is 'cuda'; ONNX Runtime is used on the CPU"),
        (("--runtime", "onnx", "--precision", "bf16"), 2, "--precision is 'bf16'; accepted for this ONNX model"),
        (
            ("--runtime", "onnx", "--checkpoint", "weights.pt"),
            2,
            "--runtime onnx does not read --checkpoint weights.pt",
        ),
        (("--runtime", "onnx", "--model", "clippy-micro"), 4, "model 'clippy-micro' has no weights on this machine"),
        (("--runtime", "onnx", "--model", "exported"), 4, "exported/onnx.json: not JSON"),
        (("--runtime", "torch", "--model", "exported"), 4, "exported: an exported model, which ONNX Runtime runs"),
    ],
)
def test_mistakes_are_one_line(clippy, draw, tmp_path, monkeypatch, options, code, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "exported").mkdir()
    (tmp_path / "exported/onnx.json").write_text("{")
    done = clippy("segment", draw(tmp_path / "photo.png"), "--labels", "sky", *options)
    assert done.code == code
    assert message in " ".join(done.err.split())
    assert "Traceback" not in done.err


def test_a_missing_runtime_says_how_to_get_it(clippy, draw, tmp_path, monkeypatch, kept_models):
    kept_models.clear()
    monkeypatch.setattr(runtime, "_installed", lambda: False)
    done = clippy("segment", draw(tmp_path / "photo.png"), "--labels", "sky", "--runtime", "onnx")
    assert done.code == 5
    assert "pip install 'clippy-vlm[onnx]'" in " ".join(done.err.split())
