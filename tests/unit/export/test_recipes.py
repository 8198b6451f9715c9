"""The examples of ``recipes/onnx`` use exported files without a line of this package, and find the same labels."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import clippy_core
from clippy_core.segmentation.segmenter import load

ROOT = Path(clippy_core.__file__).resolve().parents[1]
RECIPES = ROOT / "recipes" / "onnx"
PHOTOGRAPH = ROOT / "docs" / "photographs" / "cow.jpg"
LABELS = "grass,star|red star,water,brick"
ALONE = """
import runpy, sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("clippy_core", "clippy_cli", "torch", "timm", "transformers"):
            raise ImportError(name + " is not here")
sys.meta_path.insert(0, Absent())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def expected(tiny_directory):
    """The label map that clippy gives through PyTorch."""
    segmenter = load(tiny_directory, device="cpu", precision="fp32", runtime="torch")
    return segmenter.segment(PHOTOGRAPH, LABELS, size=64).label_map


@pytest.fixture(scope="module")
def folder(exported, tmp_path_factory):
    """The exported files, with a working size at which the picture has more than a few cells."""
    folder = tmp_path_factory.mktemp("alone") / "model"
    shutil.copytree(exported[0], folder)
    sheet = (folder / "onnx.json").read_text()
    assert sheet.count('"size": 32') == 1
    (folder / "onnx.json").write_text(sheet.replace('"size": 32', '"size": 64'))
    return folder


def test_the_python_example_without_this_package(folder, expected, tmp_path):
    shutil.copy(RECIPES / "segment.py", tmp_path)
    arguments = ["segment.py", str(folder), str(PHOTOGRAPH), LABELS, "labels.png"]
    done = subprocess.run(
        [sys.executable, "-I", "-c", ALONE, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    found = np.asarray(Image.open(tmp_path / "labels.png"))
    assert len(np.unique(expected)) > 1
    assert found.shape == expected.shape
    assert (found == expected).mean() >= 0.999
    assert [line.partition(":")[0] for line in done.stdout.splitlines()] == [
        "0 grass",
        "1 star|red star",
        "2 water",
        "3 brick",
    ]


def test_the_node_example(folder, expected, tmp_path):
    node, modules = shutil.which("node"), Path(os.environ.get("CLIPPY_NODE_MODULES", RECIPES / "node" / "node_modules"))
    if node is None or not (modules / "onnxruntime-web").is_dir():
        pytest.skip("needs node, and `npm install` in recipes/onnx/node (or CLIPPY_NODE_MODULES)")
    shutil.copy(RECIPES / "node" / "segment.mjs", tmp_path)
    (tmp_path / "node_modules").symlink_to(modules)
    done = subprocess.run(
        [node, "segment.mjs", str(folder), str(PHOTOGRAPH), LABELS, "labels.pgm"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    found = np.asarray(Image.open(tmp_path / "labels.pgm"))
    assert found.shape == expected.shape
    # Another JPEG decoder interpolates colours otherwise, so a few pixels at borders differ.
    assert (found == expected).mean() >= 0.98


@pytest.mark.slow
def test_the_bundled_model_on_a_photograph(tmp_path):
    """The whole way: the command exports, the example labels, and clippy's own label map is the same."""
    out = tmp_path / "model"
    command = [sys.executable, "-m", "clippy_cli", "export", "onnx", "--out", str(out)]
    subprocess.run(command, check=True, timeout=600, env=os.environ | {"PYTHONPATH": str(ROOT)})
    shutil.copy(RECIPES / "segment.py", tmp_path)
    labels = "sky,grass|meadow,cow,tree"
    arguments = ["segment.py", str(out), str(PHOTOGRAPH), labels, "labels.png"]
    subprocess.run([sys.executable, "-I", "-c", ALONE, *arguments], check=True, cwd=tmp_path, timeout=120)
    segmenter = load("clippy-lite", device="cpu", precision="fp32", runtime="torch")
    found = np.asarray(Image.open(tmp_path / "labels.png"))
    assert (found == segmenter.segment(PHOTOGRAPH, labels).label_map).mean() >= 0.999
