"""The engine without torch: the same numbers as torch, from packaged graphs and from exported files."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tokenizers import Tokenizer as Backend
from tokenizers import models, pre_tokenizers

from clippy_core.errors import CheckpointError, DataError, UsageError
from clippy_core.images import to_picture
from clippy_core.model.config import ModelConfig, TextConfig, VisionConfig
from clippy_core.model.device import place
from clippy_core.model.directory import read_config
from clippy_core.model.graphs import FOLDER, architecture, find_graph
from clippy_core.model.onnx_engine import OnnxEngine
from clippy_core.model.onnx_towers import ExportedTowers, PackagedTowers
from clippy_core.model.presets import find
from clippy_core.model.torch_engine import TorchEngine
from clippy_core.model.weights import load_directory, save_directory
from clippy_core.segmentation.options import Windows
from clippy_core.segmentation.segmenter import Segmenter, load
from clippy_core.shapes import scene

pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")

DOCS = Path(__file__).parents[3] / "docs"
TEMPLATES = ("{}", "a photo of a {}.")
WORDS = ["dog", "grass", "a very long word that is cut in many pieces by any tokenizer", "naïve", "traffic light"]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CLIPPY_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CLIPPY_LABEL_CACHE", raising=False)


@pytest.fixture(scope="module")
def bundled():
    """The bundled model in torch."""
    return load_directory(find("clippy-lite"))


@pytest.fixture(scope="module")
def in_torch(bundled):
    return Segmenter(bundled, place("cpu", "fp32"))


@pytest.fixture(scope="module")
def packaged():
    path = find("clippy-lite")
    graph = find_graph(read_config(path))
    assert graph is not None, "graphs of another architecture; run recipes/clippy-lite/graphs.py"
    return OnnxEngine(PackagedTowers(path, graph))


@pytest.fixture(scope="module")
def without_torch(packaged):
    return Segmenter.of(packaged)


@pytest.mark.parametrize("shape", [(1, 256, 256), (1, 16, 16), (2, 272, 400), (3, 48, 32), (1, 512, 64), (5, 80, 112)])
def test_pictures_are_embedded_as_torch_embeds_them(packaged, in_torch, shape):
    batch, height, width = shape
    pixels_B3HW = np.random.default_rng(0).standard_normal((batch, 3, height, width), np.float32)
    found, expected = packaged.encode_image(pixels_B3HW), in_torch.engine.encode_image(pixels_B3HW)
    assert found.grid == expected.grid == (height // 16, width // 16)
    assert found.patches_BPD.dtype == found.pooled_BD.dtype == np.float32
    np.testing.assert_allclose(found.patches_BPD, expected.patches_BPD.numpy(), atol=1e-5)
    np.testing.assert_allclose(found.pooled_BD, expected.pooled_BD.numpy(), atol=1e-5)


@pytest.mark.parametrize("templates", [("{}",), TEMPLATES, ("{} in the wild", "one {}", "{}")])
def test_words_are_embedded_as_torch_embeds_them(packaged, in_torch, templates):
    found_KD, expected_KD = (engine.embed_words(WORDS, templates) for engine in (packaged, in_torch.engine))
    assert found_KD.dtype == np.float32
    np.testing.assert_allclose(found_KD, expected_KD.numpy(), atol=2e-6)
    np.testing.assert_allclose(np.linalg.norm(found_KD, axis=1), 1, atol=1e-6)


def test_a_word_keeps_every_bit_in_any_company(packaged):
    together_KD = packaged.embed_words(WORDS, TEMPLATES)
    for word, vector_D in zip(WORDS, together_KD, strict=True):
        assert np.array_equal(packaged.embed_words([word], TEMPLATES)[0], vector_D)


def test_what_the_engine_says_of_the_model(packaged, in_torch):
    assert packaged.config == in_torch.config
    assert packaged.stride == in_torch.engine.stride
    assert packaged.logit_scale == pytest.approx(in_torch.engine.logit_scale, rel=1e-6)
    assert (packaged.placement.device.type, packaged.placement.dtype, packaged.placement.notice) == ("cpu", "fp32", "")


LABELS = "dog|puppy,cow,grass,sky,castle,water,person,tree"
CHANGES = [
    {},
    {"size": 160},
    {"windows": Windows(128, 96)},
    {"background": "threshold=0.15"},
    {"background": "margin=0.01"},
    {"background": "softmax=0.15"},
    {"background": "wall|floor"},
]


@pytest.mark.parametrize("changes", CHANGES, ids=str)
def test_label_maps_are_those_of_torch(without_torch, in_torch, changes):
    same = pixels = 0
    scenes = [to_picture(scene(seed, size=160).pixels_HW3) for seed in range(2)]
    photographs = [] if changes else sorted(DOCS.glob("photographs/*.jpg"))
    for picture in [*scenes, *photographs]:
        found, expected = (
            model.segment(picture, LABELS, score_map=True, **changes) for model in (without_torch, in_torch)
        )
        assert found.labels == expected.labels
        assert found.label_map.dtype == expected.label_map.dtype
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
        np.testing.assert_allclose(found.score_map, expected.score_map, atol=1e-5)
        same += int((found.label_map == expected.label_map).sum())
        pixels += found.label_map.size
    assert same / pixels >= 0.999


def test_a_batch_is_its_pictures(without_torch):
    pictures = [scene(seed, size=96).pixels_HW3 for seed in range(3)]
    found = without_torch.encode_batch(pictures)
    for picture, patches_PD in zip(pictures, found.patches_BPD, strict=True):
        alone_PD, grid = without_torch.encode(picture)
        assert grid == found.grid
        np.testing.assert_allclose(patches_PD, alone_PD, atol=1e-5)


def test_who_asks_for_the_torch_model_is_told_how_to_get_it(without_torch):
    with pytest.raises(UsageError, match=r"runs on ONNX Runtime.*runtime='torch'"):
        _ = without_torch.model


ALONE = """
import json, sys
from clippy_core import load
segmenter = load(sys.argv[1], runtime="onnx")
for more in ({}, {"background": "softmax=0.2"}, {"background": "margin=0.01"}, {"windows": "on"}):
    if more.get("windows"):
        from clippy_core.segmentation.options import Windows
        more = {"windows": Windows(64, 32)}
    result = segmenter.segment(sys.argv[2], "dog|puppy,grass", **more)
    result.save(sys.argv[3])
top = {name.partition(".")[0] for name in sys.modules}
print(json.dumps(sorted(top & {"torch", "timm", "transformers", "torchvision", "safetensors", "onnx"})))
"""


def test_segmenting_without_torch_imports_none_of_it(clippy_environment, draw, tmp_path):
    picture = draw(tmp_path / "photo.png")
    done = subprocess.run(
        [sys.executable, "-c", ALONE, "clippy-lite", str(picture), str(tmp_path / "found")],
        env=clippy_environment | {"CLIPPY_CACHE": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == []
    assert (tmp_path / "found.labels.png").exists()


# --- a model directory that is not as it should be ---


@pytest.fixture
def directory(tmp_path, bundled):
    """``directory(change)`` → the bundled model, its tensors changed."""

    def write(change=lambda state: None, **fields):
        state = dict(bundled.model.state_dict())
        change(state)

        class Changed:
            config = ModelConfig.from_dict(bundled.model.config.to_dict() | fields)

            def state_dict(self):
                return state

            def named_parameters(self, **_):
                return ()

        path = tmp_path / "model"
        tokenizer = bundled.tokenizer.path.read_bytes()
        save_directory(path, Changed(), tokenizer, "", storage="compact")  # type: ignore[arg-type]
        return path

    return write


def rename(state):
    state["text.projection.bias"] = state.pop("text.projection.weight")


def reshape(state):
    state["text.projection.weight"] = state["text.projection.weight"][:7]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (rename, "misses text.projection.weight; has an unknown text.projection.bias"),
        (reshape, "has text.projection.weight of shape [7, 384] instead of [1608, 384]"),
        (lambda state: state.pop("vision.trunk.bn1.bias"), "misses vision.trunk.bn1.bias"),
    ],
)
def test_weights_that_do_not_fit_are_refused_as_torch_refuses_them(directory, change, message):
    path = directory(change)
    with pytest.raises(CheckpointError) as in_torch:
        load_directory(path)
    with pytest.raises(CheckpointError) as caught:
        load(path, runtime="onnx")
    assert (
        str(caught.value)
        == str(in_torch.value)
        == f"{path / 'model.safetensors'}: does not fit 'clippy-lite': {message}"
    )


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_damaged_model_directory_is_refused_as_torch_refuses_it(tmp_path, name):
    path = shutil.copytree(find("clippy-lite"), tmp_path / "model")
    file = path / name
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(CheckpointError, match=f"{name}: .*(SHA-256 differs|not JSON)") as caught:
        load(path, runtime="onnx")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "manifest.json"])
@pytest.mark.parametrize("loss", [Path.unlink, lambda file: file.write_bytes(b"")], ids=["missing", "empty"])
def test_a_file_that_was_lost_is_named_as_torch_names_it(tmp_path, name, loss):
    path = shutil.copytree(find("clippy-lite"), tmp_path / "model")
    loss(path / name)
    with pytest.raises(CheckpointError) as in_torch:
        load_directory(path)
    with pytest.raises(CheckpointError) as caught:
        load(path, runtime="onnx")
    assert str(path / name) in str(caught.value)
    assert name == "config.json" or str(caught.value) == str(in_torch.value)


def test_other_weights_of_the_architecture_need_no_other_graph(directory, bundled):
    def change(state):
        state["logit_scale"] = state["logit_scale"] * 0 + 9.0
        state["vision.trunk.bn1.bias"] = state["vision.trunk.bn1.bias"] + 0.5

    path = directory(change, name="mine", templates=["a {}"])
    found, expected = load(path, runtime="onnx"), load(path, runtime="torch", device="cpu")
    assert found.config.name == "mine"
    assert found.engine.logit_scale == expected.engine.logit_scale == 100
    picture = scene(1, size=96).pixels_HW3
    np.testing.assert_allclose(found.encode(picture)[0], expected.encode(picture)[0].numpy(), atol=1e-5)
    assert (
        np.abs(found.encode(picture)[0] - Segmenter(bundled, place("cpu", "fp32")).encode(picture)[0].numpy()).max()
        > 0.01
    )


def test_the_architecture_is_what_decides_what_is_computed():
    config = read_config(find("clippy-lite"))
    document = config.to_dict()
    for part, changes in {"vision": {"size": 320}, "text": {"max_tokens": 20}}.items():
        same = ModelConfig.from_dict(document | {part: document[part] | changes})
        assert architecture(same) == architecture(config)
    for part, changes in {"vision": {"levels": ["blocks.5"]}, "text": {"pool": "cls"}}.items():
        other = ModelConfig.from_dict(document | {part: document[part] | changes})
        assert architecture(other) != architecture(config)
        assert find_graph(other) is None


def test_the_packaged_graphs_are_small():
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) < 1_000_000


# --- exported files ---

WIDTH, CELL = 6, 4
TOKENS = ["[PAD]", "[UNK]", "dog", "grass", "a", "photo", "of", "."]
rng = np.random.default_rng(3)
KERNEL = rng.standard_normal((WIDTH, 3, CELL, CELL)).astype(np.float32)
TABLE = rng.standard_normal((len(TOKENS), WIDTH)).astype(np.float32)


def toy_graphs():
    """Graphs written by hand: one strided convolution, and the mean of token embeddings."""
    from onnx import TensorProto, helper, numpy_helper

    def tensor(name, kind, shape):
        return helper.make_tensor_value_info(name, kind, shape)

    def model(nodes, inputs, outputs, weights):
        constants = [numpy_helper.from_array(value, name) for name, value in weights.items()]
        graph = helper.make_graph(nodes, "toy", inputs, outputs, constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)

    number, whole = TensorProto.FLOAT, TensorProto.INT64
    vision = [
        helper.make_node("Conv", ["pixels", "kernel"], ["cells"], strides=[CELL, CELL]),
        helper.make_node("Transpose", ["cells"], ["last"], perm=[0, 2, 3, 1]),
        helper.make_node("LpNormalization", ["last"], ["patches"], axis=-1, p=2),
        helper.make_node("ReduceMax", ["last", "axes"], ["highest"], keepdims=0),
        helper.make_node("LpNormalization", ["highest"], ["pooled"], axis=-1, p=2),
    ]
    text = [
        helper.make_node("Gather", ["table", "ids"], ["tokens"]),
        helper.make_node("Cast", ["mask"], ["weight"], to=number),
        helper.make_node("Unsqueeze", ["weight", "last"], ["weights"]),
        helper.make_node("Mul", ["tokens", "weights"], ["weighted"]),
        helper.make_node("ReduceSum", ["weighted", "first"], ["sum"], keepdims=0),
        helper.make_node("LpNormalization", ["sum"], ["embeddings"], axis=-1, p=2),
    ]
    return {
        "vision.onnx": model(
            vision,
            [tensor("pixels", number, ["B", 3, "H", "W"])],
            [tensor("patches", number, ["B", "h", "w", WIDTH]), tensor("pooled", number, ["B", WIDTH])],
            {"kernel": KERNEL, "axes": np.array([1, 2])},
        ),
        "text.onnx": model(
            text,
            [tensor("ids", whole, ["B", "L"]), tensor("mask", whole, ["B", "L"])],
            [tensor("embeddings", number, ["B", WIDTH])],
            {"table": TABLE, "last": np.array([2]), "first": np.array([1])},
        ),
    }


@pytest.fixture
def exported(tmp_path):
    """A folder as ``clippy export onnx`` writes one, of a model made by hand."""
    path = tmp_path / "exported"
    path.mkdir()
    config = ModelConfig(
        "toy", VisionConfig("by hand", size=16), TextConfig({"model_type": "by hand"}), templates=TEMPLATES
    )
    (path / "config.json").write_text(json.dumps(config.to_dict()))
    backend = Backend(models.WordLevel({word: index for index, word in enumerate(TOKENS)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.save(str(path / "tokenizer.json"))
    for name, graph in toy_graphs().items():
        (path / name).write_bytes(graph.SerializeToString())
    write_document(path)
    return path


def write_document(path, **changes):
    files = {
        file.name: {"bytes": file.stat().st_size, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
        for file in path.iterdir()
        if file.name != "onnx.json"
    }
    document = {"format": 1, "model": "toy", "source_sha256": "0", "precision": "fp32", "opset": 18, "stride": CELL}
    document |= {"embedding": WIDTH, "logit_scale": 12.5, "files": files}
    (path / "onnx.json").write_text(json.dumps(document | changes))


def unit(values):
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


def test_exported_files_compute_what_is_in_them(exported):
    engine = OnnxEngine(ExportedTowers(exported))
    pixels = np.random.default_rng(1).standard_normal((2, 3, 8, 12), np.float32)
    cells = np.einsum("bchiwj,dcij->bhwd", pixels.reshape(2, 3, 2, CELL, 3, CELL), KERNEL)
    found = engine.encode_image(pixels)
    assert found.grid == (2, 3)
    np.testing.assert_allclose(found.patches_BPD, unit(cells.reshape(2, 6, WIDTH)), atol=1e-5)
    np.testing.assert_allclose(found.pooled_BD, unit(cells.max((1, 2))), atol=1e-5)

    def text(*numbers):
        return unit(TABLE[list(numbers)].sum(0))

    expected = unit(np.stack([text(2) + text(4, 5, 6, 4, 2, 7), text(3) + text(4, 5, 6, 4, 3, 7)]))
    np.testing.assert_allclose(engine.embed_words(["dog", "grass"], TEMPLATES), expected, atol=1e-6)
    assert engine.logit_scale == 12.5


def test_an_exported_model_segments(exported):
    picture = np.asarray(Image.effect_noise((40, 24), 90).convert("RGB"))
    found = load(exported, runtime="auto").segment(picture, "dog,grass")
    named = load(exported, runtime="onnx").segment(picture, "dog,grass")
    assert np.array_equal(found.label_map, named.label_map)
    assert named.label_map.shape == (24, 40)
    assert named.model == "toy"


def lacking(name):
    def change(path):
        (path / name).unlink()

    return change


def listing_without(name):
    def change(path):
        document = json.loads((path / "onnx.json").read_text())
        del document["files"][name]
        (path / "onnx.json").write_text(json.dumps(document))

    return change


def no_graph(path):
    (path / "vision.onnx").write_bytes(b"no graph at all")
    write_document(path)


def altered(path):
    with open(path / "vision.onnx", "r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"?")


def with_fields(**changes):
    return lambda path: write_document(path, **changes)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lacking("vision.onnx"), CheckpointError, "{}/vision.onnx: missing; an exported model must have it"),
        (lacking("config.json"), CheckpointError, "{}/config.json: missing; an exported model must have it"),
        (lacking("tokenizer.json"), CheckpointError, "{}/tokenizer.json: missing; an exported model must have it"),
        (
            listing_without("text.onnx"),
            DataError,
            "{}: exported without text.onnx; export it with `--parts vision,text`",
        ),
        (
            altered,
            CheckpointError,
            "{}/vision.onnx: SHA-256 differs from onnx.json; the file is damaged, export it again",
        ),
        (no_graph, CheckpointError, "{}/vision.onnx: ONNX Runtime cannot run it ("),
        (with_fields(format=2), CheckpointError, "{}/onnx.json: format 2; this version reads format 1"),
        (with_fields(stride=None), CheckpointError, "{}/onnx.json: lacks what a model needs ("),
        (with_fields(precision="fp8"), CheckpointError, "{}/onnx.json: precision 'fp8' or stride 4 is not known"),
        (with_fields(stride=0), CheckpointError, "{}/onnx.json: precision 'fp32' or stride 0 is not known"),
        (with_fields(files=[]), DataError, "{}: exported without vision.onnx; export it with `--parts vision,text`"),
    ],
)
def test_an_exported_folder_that_is_not_as_it_should_be(exported, change, error, message):
    change(exported)
    with pytest.raises(error) as caught:
        load(exported, runtime="onnx")
    assert str(caught.value).startswith(message.format(exported))
    assert "\n" not in str(caught.value)


def test_a_text_graph_that_was_altered_is_found_when_it_is_needed(exported):
    with open(exported / "text.onnx", "ab") as file:
        file.write(b"?")
    segmenter = load(exported, runtime="onnx")
    with pytest.raises(CheckpointError, match=r"text\.onnx: SHA-256 differs"):
        segmenter.embed_words(["dog"], TEMPLATES)


# --- the cache of words ---


def test_words_from_the_cache_are_the_words_computed(packaged, monkeypatch):
    segmenter = Segmenter.of(packaged)
    computed = segmenter.embed_words(WORDS, TEMPLATES)
    monkeypatch.setattr(packaged, "embed_words", lambda *_: pytest.fail("computed again"))
    assert np.array_equal(Segmenter.of(packaged).embed_words(WORDS[::-1], TEMPLATES), computed[::-1])


def test_both_engines_keep_their_own_words(bundled, packaged, monkeypatch):
    in_torch = TorchEngine(bundled, place("cpu", "fp32"), weights="the same")
    segmenter = Segmenter.of(in_torch)
    Segmenter.of(packaged).embed_words(WORDS, TEMPLATES)
    expected = in_torch.embed_words(WORDS, TEMPLATES)
    first = segmenter.embed_words(WORDS, TEMPLATES)
    monkeypatch.setattr(in_torch, "embed_words", lambda *_: pytest.fail("computed again"))
    second = segmenter.embed_words(WORDS, TEMPLATES)
    assert first.equal(expected)
    assert second.equal(expected)


def test_a_model_in_training_keeps_nothing(bundled, tmp_path):
    Segmenter(bundled, place("cpu", "fp32"), prepare=False).embed_words(["dog"], TEMPLATES)
    assert not (tmp_path / "cache").exists()
