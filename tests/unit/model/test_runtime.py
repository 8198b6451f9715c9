"""Which engine runs a model, and what is said when it cannot."""

import json
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest

from clippy_core.errors import DataError, DeviceError, UsageError
from clippy_core.model import device, runtime
from clippy_core.model.presets import find

NVIDIA = "/dev/nvidia0"


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Make the machine have a GPU or none, ONNX Runtime or none, and an empty cache."""

    def pretend(*, gpu="", installed=True, hidden=None):
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if hidden is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
        monkeypatch.setattr(device, "SIGNS_OF_A_GPU", (str(tmp_path),) if gpu == NVIDIA else ())
        monkeypatch.setattr(device, "OTHER_SIGNS_OF_A_GPU", (str(tmp_path),) if gpu not in ("", NVIDIA) else ())
        monkeypatch.setattr(runtime, "_installed", lambda: installed)
        monkeypatch.setenv("CLIPPY_CACHE", str(tmp_path / "cache"))

    pretend()
    return pretend


@pytest.fixture
def opened(monkeypatch):
    """``opened(…)`` → which engine would be opened, without opening it."""

    def engine(towers):
        return SimpleNamespace(kind=towers, placement=SimpleNamespace(dtype="int8" if "int8" in towers else "fp32"))

    monkeypatch.setattr(runtime, "_torch", lambda *_: SimpleNamespace(kind="torch"))
    monkeypatch.setattr(runtime, "OnnxEngine", engine)
    monkeypatch.setattr(runtime, "ExportedTowers", lambda path: f"exported {path.name}")
    monkeypatch.setattr(runtime, "PackagedTowers", lambda path, graph: f"packaged {path.name}")
    return lambda model, **wishes: runtime.open_engine(model, **wishes).kind  # type: ignore[attr-defined]


def export(folder, source="", precision="fp32"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "onnx.json").write_text(json.dumps({"source_sha256": source, "precision": precision}))
    return folder


@pytest.fixture
def bundled_hash():
    return json.loads((find("clippy-lite") / "manifest.json").read_text())["files"]["model.safetensors"]["sha256"]


@pytest.fixture
def other(tmp_path):
    """A model directory of an architecture that the package has no graphs for; its hash is 0123."""
    path = tmp_path / "other"
    path.mkdir()
    config = json.loads((find("clippy-lite") / "config.json").read_text())
    config["vision"]["levels"] = []
    (path / "config.json").write_text(json.dumps(config))
    (path / "model.safetensors").write_bytes(b"weights")
    (path / "manifest.json").write_text(json.dumps({"format": 1, "files": {"model.safetensors": {"sha256": "0123"}}}))
    return path


@pytest.mark.parametrize(
    ("surroundings", "wishes", "expected"),
    [
        ({}, {}, "packaged clippy-lite"),
        ({}, {"device": "cpu", "precision": "fp32"}, "packaged clippy-lite"),
        ({}, {"runtime": "onnx"}, "packaged clippy-lite"),
        ({}, {"runtime": "torch"}, "torch"),
        ({}, {"precision": "bf16"}, "torch"),
        ({}, {"device": "cuda"}, "torch"),
        ({}, {"checkpoint": "weights.pt"}, "torch"),
        ({"installed": False}, {}, "torch"),
        ({"gpu": NVIDIA}, {}, "torch"),
        ({"gpu": "/dev/dxg"}, {}, "torch"),
        ({"gpu": NVIDIA, "hidden": ""}, {}, "packaged clippy-lite"),
        ({"gpu": NVIDIA, "hidden": "-1"}, {}, "packaged clippy-lite"),
        ({"gpu": NVIDIA, "hidden": "0"}, {}, "torch"),
        ({"gpu": NVIDIA}, {"device": "cpu"}, "packaged clippy-lite"),
        ({"gpu": NVIDIA}, {"runtime": "onnx"}, "packaged clippy-lite"),
    ],
)
def test_what_runs_the_bundled_model(machine, opened, surroundings, wishes, expected):
    machine(**surroundings)
    assert opened("clippy-lite", **wishes) == expected


def test_a_folder_that_was_exported(machine, opened, tmp_path):
    folder = export(tmp_path / "exported", precision="int8")
    assert opened(folder) == opened(folder, runtime="onnx") == opened(folder, device="cpu") == "exported exported"
    assert opened(folder, precision="auto") == "exported exported"
    machine(gpu=NVIDIA)
    assert opened(folder) == "exported exported"


def test_an_exported_copy_in_the_cache_is_taken_if_it_is_of_these_weights(machine, opened, other):
    assert opened(other) == "torch"
    export(runtime.copy_folder(other), source="4567")
    assert opened(other) == "torch"
    export(runtime.copy_folder(other), source="0123")
    assert opened(other) == opened(other, runtime="onnx") == "exported 0123"
    machine(gpu=NVIDIA)
    assert opened(other) == "torch"
    assert opened(other, runtime="onnx") == "exported 0123"


def test_a_quantised_copy_is_taken_only_when_onnx_is_asked_for(machine, opened, other, bundled_hash):
    export(runtime.copy_folder(other), source="0123", precision="int8")
    assert opened(other) == "torch"
    assert opened(other, runtime="onnx") == "exported 0123"
    export(runtime.copy_folder(find("clippy-lite")), source=bundled_hash, precision="int8")
    assert opened("clippy-lite") == opened("clippy-lite", runtime="onnx", precision="fp32") == "packaged clippy-lite"
    assert opened("clippy-lite", runtime="onnx").startswith("exported")
    with pytest.raises(UsageError, match="accepted for this ONNX model: auto, int8, fp32"):
        opened("clippy-lite", runtime="onnx", precision="bf16")
    with pytest.raises(UsageError, match=r"accepted for this ONNX model: auto, int8$"):
        opened(other, runtime="onnx", precision="fp32")


def test_exported_files_beside_the_weights_are_taken_too(machine, opened, other):
    export(other, source="0123")
    assert opened(other) == "exported other"
    assert opened(other, runtime="torch") == "torch"
    export(other, source="4567")
    assert opened(other) == "torch"


@pytest.mark.parametrize(
    ("surroundings", "wishes", "error", "message"),
    [
        ({}, {"runtime": "tensorrt"}, UsageError, "--runtime is 'tensorrt'; accepted: auto, torch, onnx"),
        ({}, {"runtime": ""}, UsageError, "--runtime is ''; accepted: auto, torch, onnx"),
        ({}, {"runtime": "onnx", "device": "gpu"}, UsageError, "--device is 'gpu'; accepted: auto, cpu, cuda, cuda:N"),
        ({}, {"runtime": "onnx", "precision": "x"}, UsageError, "--precision is 'x'; accepted: auto, fp32, bf16, fp16"),
        (
            {},
            {"runtime": "onnx", "device": "cuda:1"},
            UsageError,
            "--device is 'cuda:1'; ONNX Runtime is used on the CPU; accepted with it: auto, cpu",
        ),
        (
            {},
            {"runtime": "onnx", "precision": "bf16"},
            UsageError,
            "--precision is 'bf16'; accepted for this ONNX model: auto, fp32",
        ),
        (
            {},
            {"runtime": "onnx", "checkpoint": "w.pt"},
            UsageError,
            "--runtime onnx does not read --checkpoint w.pt; export it first: "
            "`clippy export onnx --model clippy-lite --checkpoint w.pt --out DIR`",
        ),
        (
            {"installed": False},
            {"runtime": "onnx"},
            DeviceError,
            "--runtime onnx needs ONNX Runtime; install it with `pip install 'clippy-vlm[onnx]'`",
        ),
    ],
)
def test_wishes_that_cannot_be_met(machine, opened, surroundings, wishes, error, message):
    machine(**surroundings)
    with pytest.raises(error) as caught:
        opened("clippy-lite", **wishes)
    assert str(caught.value) == message


def test_a_model_without_a_copy_says_how_to_make_one(machine, opened, other):
    with pytest.raises(DataError) as caught:
        opened(other, runtime="onnx")
    folder = runtime.copy_folder(other)
    assert f"`clippy export onnx --model {other} --out {folder}`" in str(caught.value)
    assert "\n" not in str(caught.value)
    export(folder, source="0123")
    assert opened(other, runtime="onnx") == "exported 0123"


def test_torch_does_not_run_what_was_exported(machine, opened, tmp_path):
    with pytest.raises(
        DataError, match="an exported model, which ONNX Runtime runs, here as part of `clippy segment`; accep"
    ):
        opened(export(tmp_path / "exported"), runtime="torch")


def test_an_exported_folder_without_the_runtime(machine, opened, tmp_path):
    machine(installed=False)
    with pytest.raises(DeviceError, match=r"pip install 'clippy-vlm\[onnx\]'"):
        opened(export(tmp_path / "exported"))


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 9}', '{"format": 1, "files": 3}'])
def test_a_broken_manifest_is_left_to_the_loading_that_says_what_is_wrong(machine, opened, other, content):
    (other / "manifest.json").write_text(content)
    assert opened(other) == "torch"


def test_the_fallback_without_a_manifest_is_torch(machine, opened, tmp_path):
    path = shutil.copytree(find("clippy-lite"), tmp_path / "model", ignore=shutil.ignore_patterns("manifest.json"))
    assert opened(path) == "torch"


CHOOSING = """
import sys
from clippy_core.model.device import surely_cpu
from clippy_core.model.runtime import open_engine
surely_cpu("auto")
try:
    open_engine("clippy-lite", runtime="onnx", device="cuda")
except Exception as error:
    print(type(error).__name__, sorted({"torch", "numpy", "onnxruntime"} & set(sys.modules)))
"""


def test_choosing_imports_no_torch(clippy_environment):
    done = subprocess.run(
        [sys.executable, "-c", CHOOSING],
        env=clippy_environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("UsageError ['numpy']\n", "")
