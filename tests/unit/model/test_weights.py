"""Model directories: what is written comes back, and what is damaged is refused by name."""

import json
import resource
import shutil
import struct

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from clippy_core.errors import CheckpointError, ConfigError, DataError, UsageError
from clippy_core.files import TEMPORARY_PREFIX
from clippy_core.model import weights
from clippy_core.model.config import ModelConfig, TextConfig, VisionConfig
from clippy_core.model.directory import read_manifest, sha256, verify
from clippy_core.model.dual_encoder import DualEncoder
from clippy_core.model.weights import assign, build, load_directory, pack, save_directory, unpack, write_tensors

FILES = {"config.json", "model.safetensors", "tokenizer.json", "README.md", "manifest.json"}


@pytest.fixture(scope="module")
def saved(tmp_path_factory, tiny_config, tokenizer_json, disturb):
    """A good model directory that no test may change."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    torch.manual_seed(0)
    save_directory(folder, disturb(DualEncoder(tiny_config)), tokenizer_json, "# tiny\n", storage="compact")
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    """A copy of it to damage."""
    return shutil.copytree(saved, tmp_path / "tiny")


def sign(folder):
    """Write a manifest that fits the files, whatever they are."""
    names = FILES - {"manifest.json"}
    files = {
        name: {"bytes": (folder / name).stat().st_size, "sha256": sha256(folder / name)}
        for name in names
        if (folder / name).is_file()
    }
    (folder / "manifest.json").write_text(json.dumps({"format": 1, "files": files}))


def outputs(model, seed=0):
    """Everything a model computes, on a picture that needs padding and texts that need it."""
    generator = torch.Generator().manual_seed(seed)
    stride = model.vision.stride
    pixels = torch.randn(2, 3, 2 * stride, 3 * stride - 5, generator=generator)
    ids_BL = torch.randint(5, model.config.text.encoder["vocab_size"], (3, 9), generator=generator)
    mask_BL = (torch.arange(9) < torch.tensor([[9], [4], [1]])).long()
    with torch.no_grad():
        image = model.encode_image(pixels)
        return [image.pooled_BD, image.patches_BPD, model.encode_text(ids_BL, mask_BL), model.logit_scale.exp()]


# --- round trips ------------------------------------------------------------------------------------------------


def test_fp32_comes_back_exactly(tmp_path, tiny_model, tokenizer_json):
    save_directory(tmp_path / "m", tiny_model, tokenizer_json, "# card\n")
    loaded = load_directory(tmp_path / "m")
    state = loaded.model.state_dict()
    assert list(state) == list(tiny_model.state_dict())
    for key, tensor in tiny_model.state_dict().items():
        assert state[key].dtype == tensor.dtype
        assert torch.equal(state[key], tensor), key
    for actual, expected in zip(outputs(loaded.model), outputs(tiny_model), strict=True):
        assert torch.equal(actual, expected)
    assert loaded.model.config == tiny_model.config
    assert not loaded.model.training
    assert (tmp_path / "m" / "tokenizer.json").read_bytes() == tokenizer_json
    assert (tmp_path / "m" / "README.md").read_text() == "# card\n"


@pytest.mark.parametrize(("storage", "least_cosine"), [("fp16", 0.999999), ("compact", 0.9995)])
def test_smaller_storages_come_back_nearly(tmp_path, tiny_model, tokenizer_json, storage, least_cosine):
    save_directory(tmp_path / "m", tiny_model, tokenizer_json, "", storage=storage)
    loaded = load_directory(tmp_path / "m").model
    original = tiny_model.state_dict()
    for key, tensor in loaded.state_dict().items():
        if not tensor.is_floating_point():
            assert torch.equal(tensor, original[key]), key
            continue
        assert tensor.dtype == torch.float32
        # Half precision keeps 11 bits; 8-bit rows are off by half a step, of which there are 127 in the row's maximum.
        bound = original[key].abs() * 2**-11 + 2**-24
        if storage == "compact" and key.startswith("text.encoder.") and tensor.ndim == 2:
            bound = original[key].abs().amax(1, keepdim=True) / 127 * 0.5001
        assert ((tensor - original[key]).abs() <= bound).all(), key
    for actual, expected in zip(outputs(loaded)[:3], outputs(tiny_model)[:3], strict=True):
        assert (actual * expected).sum(-1).min() > least_cosine


def test_smaller_storages_are_smaller(tmp_path, tiny_model, tokenizer_json):
    sizes = {}
    for storage in weights.STORAGES:
        save_directory(tmp_path / storage, tiny_model, tokenizer_json, "", storage=storage)
        sizes[storage] = (tmp_path / storage / "model.safetensors").stat().st_size
    assert sizes["compact"] < sizes["fp16"] < 0.6 * sizes["fp32"]


def test_saving_what_was_loaded_writes_the_same_weights(saved, tmp_path, tokenizer_json):
    first = load_directory(saved)
    save_directory(tmp_path / "again", first.model, tokenizer_json, "# tiny\n", storage="compact")
    for key, tensor in load_directory(tmp_path / "again").model.state_dict().items():
        torch.testing.assert_close(tensor, first.model.state_dict()[key], atol=1e-6, rtol=1e-6)


def test_the_directory_holds_five_files_and_no_leftovers(tmp_path, tiny_model, tokenizer_json):
    written = save_directory(tmp_path / "deep" / "m", tiny_model, tokenizer_json, "")
    assert {path.name for path in written} == FILES
    assert {path.name for path in (tmp_path / "deep" / "m").iterdir()} == FILES


def test_an_unknown_storage_is_refused_before_anything_is_written(tmp_path, tiny_model, tokenizer_json):
    with pytest.raises(ConfigError, match="storage is 'int4'; accepted: fp32, fp16, compact"):
        save_directory(tmp_path / "m", tiny_model, tokenizer_json, "", storage="int4")
    assert not (tmp_path / "m").exists()


matrices = st.tuples(st.integers(1, 5), st.integers(1, 7), st.integers(0, 2**31)).map(
    lambda given: torch.randn(given[:2], generator=torch.Generator().manual_seed(given[2])) * 10 ** (given[2] % 7 - 3)
)


@given(matrix=matrices)
def test_eight_bit_rows_are_off_by_at_most_half_a_step(matrix):
    key = "text.encoder.layer.weight"
    state = unpack(pack({key: matrix}, "compact"))
    step = matrix.abs().amax(1, keepdim=True) / 127
    assert list(state) == [key]
    assert ((state[key] - matrix).abs() <= step * 0.5001 + 1e-12).all()


@pytest.mark.parametrize("storage", weights.STORAGES)
def test_a_row_of_zeros_stays_zero(storage):
    key = "text.encoder.layer.weight"
    assert torch.equal(unpack(pack({key: torch.zeros(2, 3)}, storage))[key], torch.zeros(2, 3))


def test_integers_and_what_merely_is_called_a_scale_are_left_alone():
    state = {"vision.scale": torch.randn(3), "text.encoder.position_ids": torch.arange(4), "vision.int8": torch.ones(2)}
    for storage in ("fp32", "compact"):
        unpacked = unpack(pack(state, storage))
        assert unpacked.keys() == state.keys()
        assert unpacked["text.encoder.position_ids"].dtype == torch.int64
    assert torch.equal(unpack(pack(state, "fp32"))["vision.scale"], state["vision.scale"])


def test_a_parameter_of_two_names_is_stored_once_and_stays_one(tmp_path, encoders, tokenizer_json, disturb):
    config = ModelConfig("t5", VisionConfig("test_vit", projection=32), TextConfig(encoders["t5"]))
    model = disturb(DualEncoder(config)).eval()
    save_directory(tmp_path / "m", model, tokenizer_json, "")
    stored = load_file(tmp_path / "m" / "model.safetensors")
    assert sum("shared" in key or "embed_tokens" in key for key in stored) == 1
    loaded = load_directory(tmp_path / "m").model
    assert loaded.text.encoder.shared.weight is loaded.text.encoder.encoder.embed_tokens.weight
    assert len(list(loaded.parameters())) == len(list(model.parameters()))
    for actual, expected in zip(outputs(loaded), outputs(model), strict=True):
        assert torch.equal(actual, expected)


def test_a_parameter_of_two_names_is_accepted_under_either(encoders, disturb):
    config = ModelConfig("t5", VisionConfig("test_vit", projection=32), TextConfig(encoders["t5"]))
    model = disturb(DualEncoder(config)).eval()
    state = model.state_dict()
    first, second = "text.encoder.shared.weight", "text.encoder.encoder.embed_tokens.weight"
    for left_out in (first, second, None):
        given_state = {key: tensor.clone() for key, tensor in state.items() if key != left_out}
        other = build(config).eval()
        assign(other, given_state, "here")
        assert torch.equal(other.text.encoder.shared.weight, state[first])
        assert other.text.encoder.shared.weight is other.text.encoder.encoder.embed_tokens.weight


# --- building without initialisation ----------------------------------------------------------------------------

TOWERS = {
    "batch norm": (VisionConfig("test_efficientnet", projection=24), "bert"),
    "absolute positions": (VisionConfig("test_vit", projection=24), "distilbert"),
    "registers and layer scale": (
        VisionConfig("vit_small_patch14_reg4_dinov2", projection=24, trunk_args={"depth": 1, "img_size": 56}),
        "t5",
    ),
    "window tables": (
        VisionConfig(
            "swin_tiny_patch4_window7_224",
            projection=24,
            trunk_args={"embed_dim": 16, "depths": (1, 2, 1, 1), "num_heads": (1, 2, 4, 8), "window_size": 4},
        ),
        "mpnet",
    ),
    "rotary positions": (
        VisionConfig("eva02_tiny_patch14_224", projection=24, trunk_args={"depth": 2, "img_size": 56}),
        "bert",
    ),
    "dilated CNN": (VisionConfig("resnet18", output_stride=8, projection=24), "t5"),
}


@pytest.mark.parametrize("towers", TOWERS)
def test_a_model_built_without_initialisation_equals_an_ordinary_one_after_loading(towers, encoders, disturb):
    vision, text = TOWERS[towers]
    config = ModelConfig("m", vision, TextConfig(encoders[text], projection=24))
    torch.manual_seed(0)
    ordinary = disturb(DualEncoder(config)).eval()
    bare = build(config)
    # Whatever is not in the file must be right from the start; whatever is in it must come from there.
    persistent = set(ordinary.state_dict())
    with torch.no_grad():
        for tensor in bare.state_dict().values():
            tensor.fill_(float("nan") if tensor.is_floating_point() else 0)
    clean = dict(DualEncoder(config).named_buffers())
    for name, buffer in bare.named_buffers():
        if name not in persistent:
            assert torch.equal(buffer, clean[name]), name
    with torch.no_grad():
        for name, buffer in ordinary.named_buffers():
            if name not in persistent:
                buffer.copy_(clean[name])
    assign(bare, {key: tensor.clone() for key, tensor in ordinary.state_dict().items()}, "here")
    bare.eval()
    for (name, actual), expected in zip(bare.named_buffers(), ordinary.buffers(), strict=True):
        assert torch.equal(actual, expected), name
    for actual, expected in zip(outputs(bare), outputs(ordinary), strict=True):
        assert torch.equal(actual, expected)


def test_building_without_initialisation_leaves_torch_as_it_was(tiny_config):
    build(tiny_config)
    torch.manual_seed(0)
    layer = torch.nn.Linear(200, 50)
    assert 0 < layer.weight.std() < 1
    assert layer.weight.abs().max() <= 200**-0.5


def test_weights_are_written_as_safetensors_itself_reads_them(tmp_path, tiny_model):
    from safetensors import safe_open

    state = {**tiny_model.state_dict(), "half": torch.ones(3).half(), "flag": torch.tensor([True, False])}
    with open(tmp_path / "w.safetensors", "wb") as file:
        write_tensors(file, state, "compact")
    expected = pack(state, "compact")
    actual = load_file(tmp_path / "w.safetensors")
    assert actual.keys() == expected.keys()
    for key, tensor in expected.items():
        assert actual[key].dtype == tensor.dtype
        assert torch.equal(actual[key], tensor), key
    with safe_open(tmp_path / "w.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt", "storage": "compact"}
    (length,) = struct.unpack("<Q", (tmp_path / "w.safetensors").read_bytes()[:8])
    assert (8 + length) % 64 == 0


# --- further files ----------------------------------------------------------------------------------------------


@pytest.fixture
def with_state(tmp_path, tiny_model, tokenizer_json):
    """A directory with the state of a training run in it."""
    files = save_directory(tmp_path / "run", tiny_model, tokenizer_json, "# c\n", extra={"trainer.pt": b"state" * 99})
    assert [path.name for path in files] == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "README.md",
        "trainer.pt",
        "manifest.json",
    ]
    return tmp_path / "run"


def test_a_further_file_is_listed_and_verified(with_state):
    assert (with_state / "trainer.pt").read_bytes() == b"state" * 99
    assert read_manifest(with_state)["trainer.pt"] == {"bytes": 495, "sha256": sha256(with_state / "trainer.pt")}
    load_directory(with_state)
    (with_state / "README.md").write_text("mine\n")
    verify(with_state)
    (with_state / "trainer.pt").write_bytes(b"stat5" * 99)
    with pytest.raises(CheckpointError, match=r"trainer\.pt: SHA-256 differs from the manifest"):
        verify(with_state)
    (with_state / "trainer.pt").unlink()
    with pytest.raises(CheckpointError, match=r"trainer\.pt: missing; the manifest lists it"):
        load_directory(with_state)


def test_without_further_files_those_of_an_earlier_save_do_not_count(with_state, tiny_model, tokenizer_json):
    save_directory(with_state, tiny_model, tokenizer_json, "# c\n")
    (with_state / "trainer.pt").write_bytes(b"")
    load_directory(with_state)


@pytest.mark.parametrize("name", ["config.json", "manifest.json", "README.md", "", "..", "a/b", "/etc/x", "a\\b"])
def test_further_files_have_names_of_their_own(tmp_path, tiny_model, tokenizer_json, name):
    with pytest.raises(UsageError, match="cannot be called") as caught:
        save_directory(tmp_path / "run", tiny_model, tokenizer_json, "", extra={name: b""})
    assert repr(name) in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["../evil", "/etc/passwd", "a/b", ""])
def test_a_manifest_that_lists_files_elsewhere_is_refused(folder, name):
    edit_json("manifest.json", lambda m: m["files"].update({name: {"bytes": 0, "sha256": ""}}))(folder)
    with pytest.raises(CheckpointError, match="which is not the name of a file beside it"):
        load_directory(folder)


# --- refusals ---------------------------------------------------------------------------------------------------


def edit_json(name, change):
    def edit(folder):
        document = json.loads((folder / name).read_text())
        change(document)
        (folder / name).write_text(json.dumps(document))

    return edit


def edit_tensors(change):
    def edit(folder):
        tensors = load_file(folder / "model.safetensors")
        tensors = {key: tensor.clone() for key, tensor in tensors.items()}
        change(tensors)
        save_file(tensors, folder / "model.safetensors")

    return edit


def flip_bit(name, position):
    def edit(folder):
        data = bytearray((folder / name).read_bytes())
        data[position % len(data)] ^= 1
        (folder / name).write_bytes(data)

    return edit


def write(name, data):
    return lambda folder: (folder / name).write_bytes(data)


def remove(name):
    return lambda folder: (folder / name).unlink()


def cut(name, size):
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:size])


@pytest.mark.parametrize(
    ("damage", "file", "message"),
    [
        (remove("manifest.json"), "manifest.json", r"cannot be read \(No such file or directory\)"),
        (remove("config.json"), "config.json", "missing; the manifest lists it"),
        (remove("model.safetensors"), "model.safetensors", "missing; the manifest lists it"),
        (remove("tokenizer.json"), "tokenizer.json", "missing; the manifest lists it"),
        (cut("model.safetensors", 1000), "model.safetensors", r"1,000 bytes; the manifest says [\d,]+"),
        (write("model.safetensors", b""), "model.safetensors", "0 bytes; the manifest says"),
        (cut("tokenizer.json", 50), "tokenizer.json", "50 bytes; the manifest says"),
        (flip_bit("model.safetensors", -1), "model.safetensors", "SHA-256 differs from the manifest"),
        (flip_bit("model.safetensors", 50_000), "model.safetensors", "SHA-256 differs from the manifest"),
        (flip_bit("config.json", 60), "config.json", "SHA-256 differs from the manifest"),
        (flip_bit("tokenizer.json", 60), "tokenizer.json", "SHA-256 differs from the manifest"),
        (write("manifest.json", b"{"), "manifest.json", "not JSON"),
        (write("manifest.json", b"\xff\xff"), "manifest.json", "not JSON"),
        (write("manifest.json", b"[1]"), "manifest.json", "a JSON object is expected, not list"),
        (write("manifest.json", b"{}"), "manifest.json", "format None; this version reads format 1"),
        (edit_json("manifest.json", lambda m: m.update(format=2)), "manifest.json", "format 2; this version reads"),
        (edit_json("manifest.json", lambda m: m.pop("files")), "manifest.json", "does not list config.json"),
        (edit_json("manifest.json", lambda m: m.update(files=None)), "manifest.json", "does not list config.json"),
        (edit_json("manifest.json", lambda m: m.update(files=["config.json"])), "manifest.json", "does not list conf"),
        (
            edit_json("manifest.json", lambda m: m["files"].pop("model.safetensors")),
            "manifest.json",
            "does not list model.safetensors",
        ),
        (
            edit_json("manifest.json", lambda m: m["files"].update({"tokenizer.json": 5})),
            "manifest.json",
            "does not list tokenizer.json",
        ),
        (
            edit_json("manifest.json", lambda m: m["files"]["config.json"].pop("sha256")),
            "manifest.json",
            "does not list config.json with its size and SHA-256",
        ),
    ],
)
def test_a_directory_that_does_not_match_its_manifest_is_refused(folder, damage, file, message):
    damage(folder)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_directory(folder)
    assert str(caught.value).startswith(f"{folder / file}: ")
    assert "\n" not in str(caught.value)


EMBEDDINGS = "text.encoder.embeddings.word_embeddings.weight"


@pytest.mark.parametrize(
    ("damage", "file", "message"),
    [
        (write("config.json", b"<html>"), "config.json", "not JSON"),
        (write("config.json", b"[]"), "config.json", "a JSON object is expected"),
        (write("config.json", b"{}"), "config.json", "missing 3 required"),
        (edit_json("config.json", lambda c: c.update(colour=1)), "config.json", "ModelConfig has no field 'colour'"),
        (
            edit_json("config.json", lambda c: c["vision"].update(pol=1)),
            "config.json",
            "VisionConfig has no field 'pol'",
        ),
        (edit_json("config.json", lambda c: c["vision"].update(size="x")), "config.json", "vision.size is 'x'"),
        (edit_json("config.json", lambda c: c["vision"].update(backbone="x")), "config.json", "vision.backbone is 'x'"),
        (edit_json("config.json", lambda c: c["vision"].update(projection=25)), "config.json", "towers .* do not meet"),
        (
            edit_json("config.json", lambda c: c["text"]["encoder"].update(model_type="x")),
            "config.json",
            "model_type 'x', which transformers does not know",
        ),
        (
            edit_json("config.json", lambda c: c["text"]["encoder"].update(hidden_size=[])),
            "config.json",
            "cannot be built",
        ),
        (write("tokenizer.json", b"{}"), "tokenizer.json", "not a tokenizer"),
        (write("model.safetensors", b""), "model.safetensors", "not a readable safetensors file"),
        (write("model.safetensors", b"<html>" * 99), "model.safetensors", "not a readable safetensors file"),
        (write("model.safetensors", struct.pack("<Q", 2**63)), "model.safetensors", "not a readable safetensors file"),
        (cut("model.safetensors", 2000), "model.safetensors", "not a readable safetensors file"),
        (cut("model.safetensors", -1), "model.safetensors", "not a readable safetensors file"),
        (edit_tensors(lambda t: t.pop("logit_scale")), "model.safetensors", "does not fit 'tiny': misses logit_scale"),
        (edit_tensors(lambda t: t.update(more=torch.ones(1))), "model.safetensors", "has an unknown more"),
        (
            edit_tensors(lambda t: t.update({"text.projection.weight": torch.ones(3, 4)})),
            "model.safetensors",
            r"has text\.projection\.weight of shape \[3, 4\] instead of \[24, 32\]",
        ),
        (
            edit_tensors(lambda t: t.update({"text.projection.weight": torch.ones(24, 32, dtype=torch.int64)})),
            "model.safetensors",
            r"has text\.projection\.weight as torch.int64 instead of torch.float32",
        ),
        (
            edit_tensors(lambda t: t.pop(f"{EMBEDDINGS}.scale")),
            "model.safetensors",
            rf"misses {EMBEDDINGS}; has an unknown {EMBEDDINGS}\.int8",
        ),
        (
            edit_tensors(lambda t: t.update({f"{EMBEDDINGS}.scale": torch.ones(3, 1)})),
            "model.safetensors",
            rf"misses {EMBEDDINGS}; has an unknown {EMBEDDINGS}\.",
        ),
        (edit_tensors(lambda t: t.pop(f"{EMBEDDINGS}.int8")), "model.safetensors", f"misses {EMBEDDINGS}; has an unkn"),
        (
            edit_tensors(lambda t: t.clear()),
            "model.safetensors",
            r"misses \S+; misses \S+; misses \S+ \(and \d+ more\)",
        ),
    ],
)
def test_a_damaged_file_with_a_manifest_that_matches_is_refused(folder, damage, file, message):
    damage(folder)
    sign(folder)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_directory(folder)
    assert str(caught.value).startswith(f"{folder / file}: ")
    assert "\n" not in str(caught.value)


@given(data=st.data())
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damage_to_a_header_is_refused_with_one_kind_of_error(saved, tmp_path, tiny_model, data):
    good = (saved / "model.safetensors").read_bytes()
    (header_length,) = struct.unpack("<Q", good[:8])
    position = data.draw(st.integers(0, 8 + header_length - 1))
    damaged = bytearray(good)
    damaged[position] ^= data.draw(st.integers(1, 255))
    path = tmp_path / "model.safetensors"
    path.write_bytes(damaged)
    refusal = f"{path}: none"
    try:
        assign(tiny_model, unpack(weights.read_tensors(path)), str(path))
    except CheckpointError as error:
        refusal = str(error)
    assert refusal.startswith(f"{path}: ")
    assert "\n" not in refusal


def test_the_card_may_be_edited_or_removed(folder):
    (folder / "README.md").write_text("mine\n")
    load_directory(folder)
    (folder / "README.md").unlink()
    load_directory(folder)


@pytest.mark.parametrize("what", ["nothing", "file"])
def test_a_path_that_is_no_directory_is_refused(tmp_path, what):
    path = tmp_path / "model"
    if what == "file":
        path.write_bytes(b"weights")
    with pytest.raises(CheckpointError) as caught:
        load_directory(path)
    assert str(caught.value) == f"{path}: no such model directory"


def test_a_refusal_is_a_data_error():
    assert issubclass(CheckpointError, DataError)


def test_a_state_that_does_not_fit_changes_nothing(tiny_model):
    before = {key: tensor.clone() for key, tensor in tiny_model.state_dict().items()}
    state = {key: tensor + 1 for key, tensor in before.items()}
    state.pop("logit_scale")
    with pytest.raises(CheckpointError, match="here: does not fit 'tiny': misses logit_scale"):
        assign(tiny_model, state, "here")
    assert all(torch.equal(tensor, before[key]) for key, tensor in tiny_model.state_dict().items())


# --- saves that fail --------------------------------------------------------------------------------------------


def same_files(folder, before):
    return {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_full_disk_leaves_the_previous_model_as_it_was(folder, tiny_model, tokenizer_json):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            save_directory(folder, tiny_model, tokenizer_json, "# other\n")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert same_files(folder, before)
    load_directory(folder)


class Interrupted(BaseException):
    """Stands for a signal: not an Exception, so nothing may swallow it."""


@pytest.mark.parametrize("call", range(5))
def test_an_interrupted_save_leaves_the_previous_model_or_one_that_is_refused(
    folder, tiny_model, tokenizer_json, monkeypatch, call
):
    """Stopped between any two of the five renames: never a mixture that loads."""
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    rename, calls = weights.os.replace, []

    def stop(source, target):
        calls.append(target)
        if len(calls) > call:
            raise Interrupted
        rename(source, target)

    monkeypatch.setattr(weights.os, "replace", stop)
    with pytest.raises(Interrupted):
        save_directory(folder, tiny_model, tokenizer_json, "# other\n")
    monkeypatch.undo()
    assert not [path.name for path in folder.iterdir() if path.name.startswith(TEMPORARY_PREFIX)]
    if same_files(folder, before):
        load_directory(folder)
    elif (folder / "model.safetensors").read_bytes() == before["model.safetensors"]:
        assert load_directory(folder).model.config == tiny_model.config
    else:
        with pytest.raises(CheckpointError, match="the manifest"):
            load_directory(folder)


def test_a_rewritten_directory_holds_the_second_model(folder, tiny_model, tokenizer_json):
    save_directory(folder, tiny_model, tokenizer_json, "# other\n")
    assert torch.equal(load_directory(folder).model.text.projection.weight, tiny_model.text.projection.weight)
    assert {path.name for path in folder.iterdir()} == FILES
