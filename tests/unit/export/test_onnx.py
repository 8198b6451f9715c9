"""ONNX files against PyTorch, for sizes and label counts that no export saw, and what lies beside them."""

import hashlib
import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch.nn import functional as F

from clippy_core.errors import DataError, DeviceError, PartialError
from clippy_core.export import assemble, parity, quantise
from clippy_core.export.onnx import export_onnx
from clippy_core.export.options import ExportOptions

ALL_PARTS = ("vision", "text", "segmenter", "labelmap")
SIZES = [(1, 8, 8), (2, 8, 40), (1, 72, 24), (3, 32, 32)]


def session(path):
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def pixels(batch, height, width, seed=0):
    return np.random.default_rng(seed).standard_normal((batch, 3, height, width)).astype(np.float32)


@torch.inference_mode()
def features(model, pixels_B3HW):
    """(B, h, w, D) unit vectors and (B, D), by PyTorch."""
    seen = model.encode_image(torch.from_numpy(pixels_B3HW))
    return seen.patches_BPD.unflatten(1, seen.grid).numpy(), seen.pooled_BD.numpy()


@pytest.mark.parametrize("size", SIZES)
def test_the_image_tower_is_that_of_pytorch(tiny, exported, size):
    x = pixels(*size)
    patches, pooled = session(exported[0] / "vision.onnx").run(None, {"pixels": x})
    expected_patches, expected_pooled = features(tiny.model, x)
    np.testing.assert_allclose(patches, expected_patches, atol=1e-5)
    np.testing.assert_allclose(pooled, expected_pooled, atol=1e-5)


@pytest.mark.parametrize("texts", [["dog"], ["a red star on the grass", "sky"], ["star"] * 40, ["of " * 60]])
def test_the_text_tower_is_that_of_pytorch(tiny, exported, texts):
    ids, mask = tiny.tokenizer(texts)
    found = session(exported[0] / "text.onnx").run(None, {"ids": ids, "mask": mask})[0]
    with torch.inference_mode():
        expected = tiny.model.encode_text(torch.from_numpy(ids), torch.from_numpy(mask)).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("count", [1, 2, 77, 1000])
def test_the_segmenter_takes_any_number_of_labels(tiny, exported, count):
    x = pixels(2, 16, 56, seed=count)
    labels = np.random.default_rng(count).standard_normal((count, tiny.model.vision.width)).astype(np.float32)
    found = session(exported[0] / "segmenter.onnx").run(None, {"pixels": x, "labels": labels})[0]
    expected = features(tiny.model, x)[0] @ (labels / np.linalg.norm(labels, axis=1, keepdims=True)).T
    assert found.shape == (2, 2, 7, count)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("count", "size"), [(1, (5, 4)), (3, (100, 37)), (9, (1, 1)), (40, (16, 56)), (1000, (33, 20))]
)
def test_the_label_map_is_that_of_interpolation_and_arg_max(tiny, exported, count, size):
    x = pixels(2, 16, 56, seed=count)
    labels = np.random.default_rng(count).standard_normal((count, tiny.model.vision.width)).astype(np.float32)
    inputs = {"pixels": x, "labels": labels, "size": np.array(size)}
    found = session(exported[0] / "labelmap.onnx").run(None, inputs)[0]
    cosines = features(tiny.model, x)[0] @ (labels / np.linalg.norm(labels, axis=1, keepdims=True)).T
    wide = F.interpolate(torch.from_numpy(cosines).permute(0, 3, 1, 2), size=size, mode="bilinear")
    assert found.dtype == np.int32
    assert found.shape == (2, *size)
    assert (found == wide.argmax(1).numpy()).mean() >= 0.999


def test_equal_labels_go_to_the_first(tiny, exported):
    labels = np.repeat(np.ones((1, tiny.model.vision.width), np.float32), 3, 0)
    inputs = {"pixels": pixels(1, 8, 8), "labels": labels, "size": np.array((3, 3))}
    assert (session(exported[0] / "labelmap.onnx").run(None, inputs)[0] == 0).all()


@pytest.fixture(scope="session")
def convolutional_file(convolutional, tmp_path_factory):
    out = tmp_path_factory.mktemp("convolutional")
    export_onnx(convolutional, out, ExportOptions(parts=("vision",), seed=2))
    return out / "vision.onnx"


@pytest.mark.parametrize("size", [(1, 1, 1), (2, 3, 9), (1, 8, 2)])
def test_convolutions_and_finer_levels_at_every_size(convolutional, convolutional_file, size):
    cell = convolutional.model.vision.stride
    x = pixels(size[0], size[1] * cell, size[2] * cell)
    patches, pooled = session(convolutional_file).run(None, {"pixels": x})
    expected_patches, expected_pooled = features(convolutional.model, x)
    np.testing.assert_allclose(patches, expected_patches, atol=1e-5)
    np.testing.assert_allclose(pooled, expected_pooled, atol=1e-5)


@pytest.mark.parametrize("part", ALL_PARTS)
def test_every_file_is_valid_and_says_what_it_is(exported, tiny_directory, part):
    out, sheet = exported
    path = out / f"{part}.onnx"
    onnx.checker.check_model(str(path), full_check=True)
    model = onnx.load(path)
    said = {entry.key: entry.value for entry in model.metadata_props}
    assert said["clippy.part"] == part
    assert said["clippy.licence"] == "Apache-2.0"
    assert json.loads(said["clippy.stride"]) == 8
    assert json.loads(said["clippy.preprocessing"]) == sheet["preprocessing"]
    manifest = json.loads((tiny_directory / "manifest.json").read_text())
    assert said["clippy.source_sha256"] == manifest["files"]["model.safetensors"]["sha256"] == sheet["source_sha256"]
    assert [entry.version for entry in model.opset_import if entry.domain == ""] == [20]
    assert model.ir_version == 9, "what ONNX Runtime 1.17 reads"
    entry = sheet["files"][path.name]
    assert entry["bytes"] == path.stat().st_size
    assert entry["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_sheet_lists_inputs_outputs_and_figures(exported, tiny):
    out, sheet = exported
    width = tiny.model.vision.width
    assert sheet["files"]["segmenter.onnx"]["inputs"] == {
        "pixels": {"type": "float32", "shape": ["batch", 3, "height", "width"]},
        "labels": {"type": "float32", "shape": ["label_count", width]},
    }
    assert sheet["files"]["labelmap.onnx"]["outputs"] == {
        "label_map": {"type": "int32", "shape": ["batch", "out_height", "out_width"]}
    }
    assert sheet["parity"].keys() == set(ALL_PARTS)
    assert 0 < sheet["parity"]["vision"]["max_abs"] < sheet["parity"]["vision"]["tolerance"]["max_abs"]
    assert sheet["logit_scale"] == pytest.approx(float(tiny.model.logit_scale.detach().exp()))
    names = {path.name for path in out.iterdir()}
    assert names == {*(f"{part}.onnx" for part in ALL_PARTS), "onnx.json", "config.json", "tokenizer.json"}
    assert (out / "tokenizer.json").read_bytes() == tiny.tokenizer.path.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("opset", [18, 23])
def test_other_operator_sets(tiny, tmp_path, opset):
    export_onnx(tiny, tmp_path, ExportOptions(parts=("vision", "labelmap"), opset=opset, seed=1))
    assert {entry.version for entry in onnx.load(tmp_path / "labelmap.onnx").opset_import} == {opset}


@pytest.mark.parametrize(("quantize", "atol"), [("none", 1e-5), ("fp16", 0.02), ("int8", 0.1)])
def test_weights_that_are_too_large_lie_beside_the_file(tiny, traced, tmp_path, monkeypatch, quantize, atol):
    monkeypatch.setattr(assemble, "EXTERNAL_ABOVE", 1000)
    files = export_onnx(tiny, tmp_path / "out", ExportOptions(parts=("vision", "labelmap"), quantize=quantize, seed=1))
    sheet = json.loads((tmp_path / "out" / "onnx.json").read_text())
    assert "vision.onnx.data" in [file.name for file in files]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {file.name for file in files}
    data = sheet["files"]["vision.onnx"]["external"]["vision.onnx.data"]
    assert data["sha256"] == hashlib.sha256((tmp_path / "out" / "vision.onnx.data").read_bytes()).hexdigest()
    x = pixels(1, 24, 16)
    found = session(tmp_path / "out" / "vision.onnx").run(None, {"pixels": x})[0]
    np.testing.assert_allclose(found, features(tiny.model, x)[0], atol=atol)
    assert session(tmp_path / "out" / "labelmap.onnx").get_outputs()[0].name == "label_map"


@pytest.mark.parametrize("calibrated", [False, True])
@pytest.mark.parametrize("quantize", ["fp16", "int8"])
def test_smaller_numbers_in_smaller_files(tiny, traced, exported, draw, tmp_path, quantize, calibrated):
    if calibrated and quantize == "fp16":
        pytest.skip("ranges are measured for integers only")
    calibrate = draw(tmp_path / "pictures" / "a.png").parent if calibrated else None
    if calibrated:
        draw(tmp_path / "pictures" / "below" / "b.png", (50, 90))
        (tmp_path / "pictures" / "broken.jpg").write_bytes(b"nothing")
    options = ExportOptions(parts=ALL_PARTS, quantize=quantize, calibrate=calibrate, seed=4)
    export_onnx(tiny, tmp_path / "out", options)
    sheet = json.loads((tmp_path / "out" / "onnx.json").read_text())
    assert sheet["precision"] == quantize
    for name in ("vision.onnx", "text.onnx"):
        assert sheet["files"][name]["bytes"] < 0.85 * exported[1]["files"][name]["bytes"]
    x = pixels(2, 24, 48)
    run = session(tmp_path / "out" / "vision.onnx")
    assert [value.type for value in (*run.get_inputs(), *run.get_outputs())] == ["tensor(float)"] * 3
    cosines = (run.run(None, {"pixels": x})[0] * features(tiny.model, x)[0]).sum(-1)
    assert cosines.mean() > 0.95
    kinds = {
        onnx.TensorProto.DataType.Name(tensor.data_type)
        for tensor in onnx.load(tmp_path / "out/vision.onnx").graph.initializer
    }
    assert kinds & ({"FLOAT16"} if quantize == "fp16" else {"UINT8", "INT8"})


def test_convolutions_that_suffer_stay_in_floating_point(convolutional_file):
    kept = set(quantise.sensitive_nodes(convolutional_file))
    nodes = [node for node in onnx.load(convolutional_file).graph.node if node.op_type == "Conv"]
    grouped = {node.name for node in nodes if any(entry.name == "group" and entry.i > 1 for entry in node.attribute)}
    assert len(grouped) > 1
    assert kept == grouped | {nodes[0].name}
    assert len(kept) < len(nodes)


def test_no_file_says_where_it_was_made(exported, convolutional_file):
    for path in (exported[0] / "vision.onnx", exported[0] / "text.onnx", convolutional_file):
        data = path.read_bytes()
        assert b"site-packages" not in data
        assert b"clippy_core" not in data


def break_weights(path):
    """Change the largest matrix of an ONNX file a little."""
    model = onnx.load(path)
    tensor = max(model.graph.initializer, key=lambda tensor: tensor.ByteSize())
    values = onnx.numpy_helper.to_array(tensor).copy()
    values.flat[::3] *= 1.05
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    onnx.save(model, path)


def test_a_file_that_differs_is_not_kept(tiny, traced, tmp_path, monkeypatch):
    write = assemble.write_part

    def write_wrong(part, path, opset):
        write(part, path, opset)
        if path.name == "text.onnx":
            break_weights(path)

    export_onnx(tiny, tmp_path / "out", ExportOptions(parts=("vision", "text"), seed=1))
    monkeypatch.setattr(assemble, "write_part", write_wrong)
    with pytest.raises(PartialError, match=r"^text.onnx in fp32 was not kept: max_abs is [\d.e-]+, tolerance 0.0001$"):
        export_onnx(tiny, tmp_path / "out", ExportOptions(parts=("vision", "text"), seed=1))
    assert {path.name for path in tmp_path.iterdir()} == {"out"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "vision.onnx",
        "onnx.json",
        "config.json",
        "tokenizer.json",
    }
    sheet = json.loads((tmp_path / "out" / "onnx.json").read_text())
    assert list(sheet["files"]) == ["vision.onnx"]
    assert list(sheet["parity"]) == ["vision"]


def test_a_file_that_cannot_be_run_is_not_kept(tiny, tmp_path, monkeypatch):
    def write_rubbish(part, path, opset):
        onnx.save(onnx.helper.make_model(onnx.helper.make_graph([], "empty", [], [])), path)

    monkeypatch.setattr(assemble, "write_part", write_rubbish)
    with pytest.raises(PartialError, match=r"^text.onnx in fp32 was not kept: it cannot be run \("):
        export_onnx(tiny, tmp_path / "out", ExportOptions(parts=("text",)))
    assert list(tmp_path.iterdir()) == []


def test_an_error_leaves_the_earlier_export_as_it_was(tiny, traced, tmp_path, monkeypatch):
    export_onnx(tiny, tmp_path / "out", ExportOptions(parts=("text",), seed=1))
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}

    def fail(*_):
        raise OSError("the disk is gone")

    monkeypatch.setattr(parity, "check", fail)
    with pytest.raises(OSError, match="the disk is gone"):
        export_onnx(tiny, tmp_path / "out", ExportOptions(parts=("text",), quantize="int8"))
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_files_of_an_earlier_export_that_are_not_listed_any_more_go(tiny, traced, tmp_path):
    export_onnx(tiny, tmp_path, ExportOptions(parts=("vision", "segmenter"), seed=1))
    (tmp_path / "mine.onnx").write_bytes(b"somebody's own")
    export_onnx(tiny, tmp_path, ExportOptions(parts=("vision",), seed=1))
    assert {path.name for path in tmp_path.glob("*.onnx")} == {"vision.onnx", "mine.onnx"}


def test_no_package_no_export(tiny, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    with pytest.raises(DeviceError, match=r"needs onnxscript.*pip install 'clippy-vlm\[onnx\]'"):
        export_onnx(tiny, tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such folder"),
        ({}, "no picture that can be read; accepted: "),
        ({"a.png": b"x"}, "no picture that can be read: "),
    ],
)
def test_calibration_needs_pictures(tiny, tmp_path, content, message):
    folder = tmp_path / "pictures"
    if content is not None:
        folder.mkdir()
        for name, data in content.items():
            (folder / name).write_bytes(data)
    with pytest.raises(DataError, match=message):
        export_onnx(tiny, tmp_path / "out", ExportOptions(quantize="int8", calibrate=folder))
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_is_known_by_the_hash_of_its_weights(tiny, convolutional, tmp_path):
    from clippy_core.export.metadata import weights_hash
    from clippy_core.model.weights import save_directory

    save_directory(tmp_path, tiny.model, b"{}", "card")
    expected = hashlib.sha256((tmp_path / "model.safetensors").read_bytes()).hexdigest()
    assert weights_hash(tiny, None) == expected
    assert weights_hash(convolutional, None) != expected
