"""``clippy export``: what is written, what is printed, and every way to get it wrong."""

import json

import pytest


@pytest.fixture
def quick(monkeypatch):
    """Leave out tracing, which takes long and is tested elsewhere: an exporter that notes what it was asked for."""
    from clippy_core.export import onnx

    asked = []

    def note(loaded, out, options):
        asked.append((loaded.model.config.name, out, options))
        options.say("tracing nothing")
        out.mkdir()
        (out / "onnx.json").write_text(json.dumps({"precision": options.precision, "parity": {"vision": {}}}))
        return [out / "onnx.json"]

    monkeypatch.setattr(onnx, "export_onnx", note)
    return asked


def test_options_reach_the_exporter(clippy, quick, tiny_directory, tmp_path):
    out = tmp_path / "out"
    arguments = ["--parts", "text, vision", "--quantize", "int8", "--calibrate", tmp_path, "--opset", "21"]
    done = clippy("export", "onnx", "--model", tiny_directory, "--out", out, *arguments)
    assert (done.code, done.out) == (0, f"{out / 'onnx.json'}\n")
    assert "tracing nothing" in done.err
    ((name, folder, options),) = quick
    assert (name, folder) == ("tiny", out)
    assert options.parts == ("text", "vision")
    assert (options.quantize, options.calibrate, options.opset) == ("int8", tmp_path, 21)
    assert options.source == tiny_directory


def test_json_is_one_document_with_the_figures(clippy, quick, tiny_directory, tmp_path):
    done = clippy("export", "onnx", "--model", tiny_directory, "--out", tmp_path / "out", "--json")
    assert json.loads(done.out) == {
        "model": str(tiny_directory),
        "form": "onnx",
        "files": [str(tmp_path / "out" / "onnx.json")],
        "precision": "fp32",
        "parity": {"vision": {}},
    }


def test_quiet_says_nothing_in_passing(clippy, quick, tiny_directory, tmp_path):
    assert clippy("-q", "export", "onnx", "--model", tiny_directory, "--out", tmp_path / "out").err == ""


def test_a_checkpoint_has_no_directory(clippy, quick, tiny_directory, tmp_path):
    weights = tiny_directory / "model.safetensors"
    done = clippy("export", "onnx", "--model", tiny_directory, "--checkpoint", weights, "--out", tmp_path / "out")
    assert done.code == 0, done.err
    assert quick[0][2].source is None


def test_safetensors_writes_a_directory_that_loads(clippy, tiny_directory, tmp_path):
    from clippy_core.model.weights import load_directory

    done = clippy("export", "safetensors", "--model", tiny_directory, "--out", tmp_path / "out")
    assert done.code == 0, done.err
    assert load_directory(tmp_path / "out").model.config.name == "tiny"


@pytest.mark.parametrize("name", ["README.md", "config.json"])
def test_what_is_no_model_is_not_written_over(clippy, tiny_directory, tmp_path, name):
    path = tmp_path / "out" / name
    path.parent.mkdir()
    path.write_text("{} of mine")
    done = clippy("export", "safetensors", "--model", tiny_directory, "--out", path.parent)
    assert (done.code, done.err) == (
        4,
        f"error: {path}: is there already, and not by clippy; move it away, or give another --out\n",
    )
    assert [file.name for file in path.parent.iterdir()] == [name]
    assert path.read_text() == "{} of mine"
    path.unlink()
    for _ in range(2):
        assert clippy("export", "safetensors", "--model", tiny_directory, "--out", path.parent).code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["onx"], 2, "unknown exporter 'onx'; did you mean onnx?"),
        (["onnx", "--parts", "vision,foo"], 2, "--parts is 'vision,foo'; accepted: vision, text, segmenter, labelmap"),
        (["onnx", "--parts", ","], 2, "--parts is ''; accepted: vision"),
        (["onnx", "--quantize", "fp8"], 2, "--quantize is 'fp8'; accepted: none, fp16, int8"),
        (["onnx", "--calibrate", "."], 2, "--calibrate measures for --quantize int8"),
        (["onnx", "--opset", "9"], 2, "--opset is 9; accepted: 18 to 23"),
        (["onnx", "--quantize", "int8", "--calibrate", "nowhere"], 4, "--calibrate nowhere: no such folder"),
        (["onnx", "--model", "nowhere/model"], 4, "model 'nowhere/model': no such model directory"),
        (["torch", "--quantize", "int8"], 2, "`clippy export torch` has no --quantize"),
        (["torch", "--parts", "labelmap"], 2, "--parts has 'labelmap'"),
        (["safetensors", "--opset", "21"], 2, "exporter 'safetensors' takes no --opset"),
    ],
)
def test_mistakes_are_one_line(clippy, tiny_directory, tmp_path, monkeypatch, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    model = [] if "--model" in arguments else ["--model", tiny_directory]
    done = clippy("export", *arguments, *model)
    assert (done.code, done.out) == (code, "")
    assert message in done.err
    assert "Traceback" not in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_is_exit_5(clippy, tiny_directory, tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "onnx", None)
    done = clippy("export", "onnx", "--model", tiny_directory, "--out", tmp_path / "out")
    assert done.code == 5
    assert "pip install 'clippy-vlm[onnx]'" in done.err
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_fails_is_exit_3(clippy, tiny_directory, tmp_path, monkeypatch):
    import onnx

    from clippy_core.export import assemble

    def write_rubbish(part, path, opset):
        onnx.save(onnx.helper.make_model(onnx.helper.make_graph([], "empty", [], [])), path)

    monkeypatch.setattr(assemble, "write_part", write_rubbish)
    done = clippy("export", "onnx", "--model", tiny_directory, "--parts", "text", "--out", tmp_path / "out")
    assert (done.code, done.out) == (3, "")
    assert "error: text.onnx in fp32 was not kept: it cannot be run (" in done.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_bundled_model_as_a_process(process, tmp_path):
    import numpy as np
    import onnxruntime

    done = process("export", "onnx", "--out", "out", "--json", timeout=600)
    assert done.code == 0, done.err
    document = json.loads(done.out)
    assert document["parity"]["vision"]["max_abs"] < 1e-4
    session = onnxruntime.InferenceSession(tmp_path / "out" / "segmenter.onnx")
    logits = session.run(None, {"pixels": np.zeros((1, 3, 48, 80), np.float32), "labels": np.eye(3, 1608, dtype="f")})
    assert logits[0].shape == (1, 3, 5, 3)
