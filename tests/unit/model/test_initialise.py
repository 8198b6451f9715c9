"""Every source that a tower can start from gives what the library that wrote it gives."""

import dataclasses
import json
import shutil

import pytest
import sentence_transformers
import timm
import torch
import transformers
from safetensors.torch import load_file, save, save_file
from sentence_transformers.sentence_transformer import modules
from timm.models import save_for_hf
from tokenizers import Tokenizer, models

from clippy_core.errors import CheckpointError, DataError, UsageError
from clippy_core.model.config import ModelConfig, TextConfig, VisionConfig
from clippy_core.model.derive import derive_text, derive_vision
from clippy_core.model.initialise import initialise
from clippy_core.model.weights import save_directory

VIT = {"embed_dim": 32, "depth": 2, "num_heads": 2, "img_size": 32}
VISION = VisionConfig("vit_tiny_patch16_224", size=32, projection=24, trunk_args=VIT)
PIXELS = torch.randn(2, 3, 32, 48, generator=torch.Generator().manual_seed(1))
WORDS = ["a photo of the dog", "grass"]
SEED = 3


@pytest.fixture(scope="module")
def config(encoders):
    return ModelConfig("small", VISION, TextConfig(encoders["bert"], dense=24, max_tokens=16))


@pytest.fixture(scope="module")
def tokenizer_file(tmp_path_factory, tokenizer_json):
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    path.write_bytes(tokenizer_json)
    return str(path)


@pytest.fixture(scope="module")
def fresh(config, tokenizer_file):
    """The model without any source; tests only read it."""
    return initialise(config, tokenizer=tokenizer_file, seed=SEED).model


def timm_model(disturb, **arguments):
    return disturb(timm.create_model("vit_tiny_patch16_224", **{"num_classes": 5, **VIT, **arguments})).eval()


@pytest.fixture(scope="module")
def timm_folder(tmp_path_factory, disturb):
    """A classifier as timm saves it for the hub, and the model."""
    folder, model = tmp_path_factory.mktemp("timm") / "vit", timm_model(disturb)
    save_for_hf(model, str(folder), safe_serialization=True)
    return folder, model


@pytest.fixture(scope="module")
def encoder_folder(tmp_path_factory, encoders, disturb, tokenizer_json):
    """A masked language model with a pooler's worth of extras, as transformers saves it, and its encoder."""
    folder = tmp_path_factory.mktemp("bert")
    arguments = {key: value for key, value in encoders["bert"].items() if key != "model_type"}
    model = disturb(transformers.BertForMaskedLM(transformers.BertConfig(**arguments))).eval()
    model.save_pretrained(folder)
    (folder / "tokenizer.json").write_bytes(tokenizer_json)
    transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"), pad_token="[PAD]", unk_token="[UNK]", mask_token="[MASK]"
    ).save_pretrained(folder)
    return folder, model.bert


@pytest.fixture(scope="module")
def sentence_folder(tmp_path_factory, encoder_folder):
    """A Sentence-Transformers model with a dense layer, and the folder it is saved in."""
    folder = tmp_path_factory.mktemp("sentence")
    encoder = modules.Transformer(str(encoder_folder[0]), max_seq_length=16)
    dense = modules.Dense(32, 24, bias=False, activation_function=torch.nn.Identity())
    model = sentence_transformers.SentenceTransformer(
        modules=[encoder, modules.Pooling(32, "mean"), dense, modules.Normalize()], device="cpu"
    )
    model.save(str(folder))
    return folder, model


@pytest.fixture(scope="module")
def own_folder(tmp_path_factory, config, tokenizer_json, tokenizer_file, disturb):
    folder = tmp_path_factory.mktemp("own") / "model"
    model = disturb(initialise(config, tokenizer=tokenizer_file, seed=9).model, seed=7)
    save_directory(folder, model, tokenizer_json, "# own\n", extra={"trainer.pt": b"123"})
    return folder, model


def embed_texts(loaded):
    ids_BL, mask_BL = map(torch.from_numpy, loaded.tokenizer(WORDS))
    with torch.inference_mode():
        return loaded.model.encode_text(ids_BL, mask_BL)


def same(first, second, start):
    first, second = first.state_dict(), second.state_dict()
    keys = [key for key in first if key.startswith(start)]
    return bool(keys) and all(torch.equal(first[key], second[key]) for key in keys)


def refused(kind, message, config, **sources):
    with pytest.raises(kind, match=message) as caught:
        initialise(config, **sources)
    assert "\n" not in str(caught.value)


# --- nothing ----------------------------------------------------------------------------------------------------


def test_random_weights_are_those_of_the_seed_and_the_random_state_stays(config, tokenizer_file, fresh):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    again = initialise(config, vision="random", text="random", tokenizer=tokenizer_file, seed=SEED)
    assert torch.equal(torch.get_rng_state(), before)
    assert same(again.model, fresh, "")
    assert not again.model.training
    other = initialise(config, tokenizer=tokenizer_file, seed=SEED + 1).model
    assert not same(other, fresh, "vision.trunk.blocks")
    assert not same(other, fresh, "text.encoder.encoder")


# --- image towers -----------------------------------------------------------------------------------------------


def test_a_timm_folder_gives_what_timm_gives(config, timm_folder, tokenizer_file, fresh):
    folder, model = timm_folder
    before = torch.get_rng_state()
    loaded = initialise(config, vision=str(folder), tokenizer=tokenizer_file, seed=SEED).model
    assert torch.equal(torch.get_rng_state(), before)
    with torch.inference_mode():
        expected = model.forward_features(PIXELS[..., :32])[:, 1:] @ loaded.vision.projection.weight.T
        actual = loaded.vision(PIXELS[..., :32]).patches_BPD
    assert (actual - expected).abs().max() <= 1e-5
    assert same(loaded, fresh, "vision.projection"), "the source has no projection"
    assert same(loaded, fresh, "text.")


def test_position_embeddings_are_resized_as_timm_resizes_them(config, tmp_path, disturb, tokenizer_file):
    larger = timm_model(disturb, img_size=64)
    save_for_hf(larger, str(tmp_path), safe_serialization=True)
    loaded = initialise(config, vision=str(tmp_path), tokenizer=tokenizer_file).model
    larger.set_input_size(img_size=32)
    assert loaded.vision.trunk.pos_embed.shape == (1, 5, 32)
    torch.testing.assert_close(loaded.vision.trunk.pos_embed, larger.pos_embed, rtol=0, atol=1e-6)


def test_weights_published_by_timm_come_through_its_own_loading(hub_cache, config, tokenizer_file, fresh):
    """A name that timm knows, its weights in the hub's cache, no network; with the classifier that they have."""
    name = "test_vit.r160_in1k"
    config = dataclasses.replace(config, vision=VisionConfig("test_vit", size=160, projection=24))
    with torch.random.fork_rng():
        torch.manual_seed(2)
        source = timm.create_model("test_vit")
    hub_cache(f"timm/{name}", {"model.safetensors": save(source.state_dict())})
    loaded = initialise(config, vision=f"timm:{name}", tokenizer=tokenizer_file).model
    for key, tensor in loaded.vision.trunk.state_dict().items():
        assert torch.equal(tensor, source.state_dict()[key]), key
    state = source.state_dict()
    state.pop("norm.weight")
    hub_cache(f"timm/{name}", {"model.safetensors": save(state | {"more": torch.ones(1)})})
    message = rf"^timm:{name}: does not fit image tower 'test_vit': misses norm.weight; has an unknown more$"
    refused(CheckpointError, message, config, vision=f"timm:{name}", tokenizer=tokenizer_file)


def edit_safetensors(change):
    def edit(folder):
        tensors = {key: tensor.clone() for key, tensor in load_file(folder / "model.safetensors").items()}
        change(tensors)
        save_file(tensors, folder / "model.safetensors")

    return edit


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (edit_safetensors(lambda t: t.pop("norm.weight")), "'vit_tiny_patch16_224': misses norm.weight$"),
        (edit_safetensors(lambda t: t.update(more=torch.ones(1))), "has an unknown more$"),
        (
            edit_safetensors(lambda t: t.update({"norm.bias": torch.ones(3)})),
            r"has norm.bias of shape \[3\] instead of \[32\]$",
        ),
        (
            lambda folder: (folder / "config.json").write_text('{"model_type": "vit"}'),
            r"no `architecture`.* \(it holds 'vit'\)",
        ),
        (lambda folder: (folder / "config.json").unlink(), "config.json: cannot be read"),
        (
            lambda folder: (folder / "model.safetensors").unlink(),
            "no weights in it; accepted: model.safetensors, pytorch",
        ),
    ],
)
def test_timm_folders_that_do_not_fit(config, timm_folder, tokenizer_file, tmp_path, change, message):
    folder = shutil.copytree(timm_folder[0], tmp_path / "vit")
    change(folder)
    refused(CheckpointError, message, config, vision=str(folder), tokenizer=tokenizer_file)


# --- text towers ------------------------------------------------------------------------------------------------


def test_a_masked_language_model_gives_its_encoder_and_its_tokenizer(config, encoder_folder, fresh):
    folder, model = encoder_folder
    before = torch.get_rng_state()
    loaded = initialise(config, text=str(folder), seed=SEED)
    assert torch.equal(torch.get_rng_state(), before)
    assert loaded.tokenizer.path == folder / "tokenizer.json"
    for key, tensor in loaded.model.text.encoder.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[key]), key
    assert same(loaded.model, fresh, "text.dense")
    assert same(loaded.model, fresh, "vision.")


def test_a_sentence_transformers_folder_gives_the_same_embeddings(config, sentence_folder):
    folder, model = sentence_folder
    expected = torch.from_numpy(model.encode(WORDS))
    assert (embed_texts(initialise(config, text=str(folder))) - expected).abs().max() <= 1e-5


def test_the_older_layout_with_pickles_and_a_folder_a_module(config, sentence_folder, tmp_path):
    folder, model = sentence_folder
    old = shutil.copytree(folder, tmp_path / "old")
    (old / "0_Transformer").mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        (old / name).rename(old / "0_Transformer" / name)
    for part in ("0_Transformer", "2_Dense"):
        torch.save(load_file(old / part / "model.safetensors"), old / part / "pytorch_model.bin")
        (old / part / "model.safetensors").unlink()
    listed = json.loads((old / "modules.json").read_text())
    listed[0]["path"] = "0_Transformer"
    for part in listed:
        part["type"] = f"sentence_transformers.models.{part['type'].rpartition('.')[2]}"
    (old / "modules.json").write_text(json.dumps(listed))
    loaded = initialise(config, text=str(old))
    assert (embed_texts(loaded) - torch.from_numpy(model.encode(WORDS))).abs().max() <= 1e-5
    assert loaded.tokenizer.path.parent.name == "0_Transformer"


@pytest.mark.parametrize("dense", [None, 12])
def test_a_dense_layer_of_another_shape_is_not_taken(config, sentence_folder, tokenizer_file, dense):
    text = dataclasses.replace(config.text, dense=dense, projection=24)
    config = dataclasses.replace(config, text=text)
    loaded = initialise(config, text=str(sentence_folder[0]), seed=SEED).model
    start = initialise(config, tokenizer=tokenizer_file, seed=SEED).model
    assert same(loaded, start, "text.projection")
    assert dense is None or same(loaded, start, "text.dense")
    assert not same(loaded, start, "text.encoder")


def test_t5_with_its_decoder_gives_its_encoder(config, encoders, tokenizer_file, tmp_path, disturb):
    arguments = {key: value for key, value in encoders["t5"].items() if key != "model_type"}
    model = disturb(transformers.T5ForConditionalGeneration(transformers.T5Config(**arguments))).eval()
    model.save_pretrained(tmp_path)
    config = dataclasses.replace(config, text=TextConfig(encoders["t5"] | {"is_encoder_decoder": False}, dense=24))
    loaded = initialise(config, text=str(tmp_path), tokenizer=tokenizer_file).model.text.encoder
    ids_BL = torch.tensor([[7, 9, 1]])
    with torch.inference_mode():
        expected = model.encoder(input_ids=ids_BL).last_hidden_state
        assert (loaded(input_ids=ids_BL).last_hidden_state - expected).abs().max() <= 1e-6


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_weights_in_several_files(config, encoder_folder, tmp_path, suffix):
    folder, model = encoder_folder
    whole = load_file(folder / "model.safetensors")
    shutil.copytree(folder, tmp_path / "parts", ignore=lambda *_: ["model.safetensors"])
    keys = sorted(whole)
    parts = {f"part-{index}.{suffix}": {key: whole[key] for key in keys[index::2]} for index in (0, 1)}
    for name, tensors in parts.items():
        (save_file if suffix == "safetensors" else torch.save)(tensors, tmp_path / "parts" / name)
    index = {"weight_map": {key: name for name, tensors in parts.items() for key in tensors}}
    name = "model.safetensors.index.json" if suffix == "safetensors" else "pytorch_model.bin.index.json"
    (tmp_path / "parts" / name).write_text(json.dumps(index))
    loaded = initialise(config, text=str(tmp_path / "parts")).model.text.encoder
    assert all(torch.equal(tensor, model.state_dict()[key]) for key, tensor in loaded.state_dict().items())
    (tmp_path / "parts" / f"part-1.{suffix}").unlink()
    message = rf"{name}: lists part-1\.{suffix}, which is missing"
    refused(CheckpointError, message, config, text=str(tmp_path / "parts"))
    index["weight_map"]["no.such"] = f"part-0.{suffix}"
    (tmp_path / "parts" / name).write_text(json.dumps(index))
    refused(CheckpointError, r"lists no\.such in part-0", config, text=str(tmp_path / "parts"))
    (tmp_path / "parts" / name).write_text(json.dumps({"weight_map": {"a": "../evil"}}))
    refused(CheckpointError, "no weight_map that names files beside it", config, text=str(tmp_path / "parts"))


WORD_EMBEDDINGS = "bert.embeddings.word_embeddings.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            edit_safetensors(lambda t: t.pop("bert.encoder.layer.0.output.dense.weight")),
            r"the text tower of 'small': misses text\.encoder\.encoder\.layer\.0\.output\.dense\.weight$",
        ),
        (
            edit_safetensors(lambda t: t.update({"bert.encoder.more": torch.ones(1)})),
            r"has an unknown text\.encoder\.bert\.encoder\.more$",
        ),
        (
            edit_safetensors(lambda t: t.update({WORD_EMBEDDINGS: torch.ones(3, 32)})),
            r"has text\.encoder\.embeddings\.word_embeddings\.weight of shape \[3, 32\] instead of \[26, 32\]",
        ),
        (
            lambda folder: (folder / "config.json").write_text('{"model_type": "gpt2"}'),
            "a text tower of type 'gpt2'; the configuration has 'bert'",
        ),
        (
            lambda folder: (folder / "config.json").write_text('{"architecture": "vit"}'),
            r"no `model_type`.*holds 'vit'",
        ),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"<html>"), "not a readable safetensors file"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "no tokenizer.json|cannot be converted"),
        (lambda folder: (folder / "modules.json").write_text("[1]"), r"modules\.json: not a list of modules"),
        (
            lambda folder: (folder / "modules.json").write_text('[{"type": "x.LSTM", "path": "1_LSTM"}]'),
            "module LSTM in '1_LSTM' has no place in a text tower",
        ),
    ],
)
def test_text_folders_that_do_not_fit(config, encoder_folder, tmp_path, monkeypatch, change, message):
    monkeypatch.setenv("CLIPPY_CACHE", str(tmp_path / "cache"))
    folder = shutil.copytree(encoder_folder[0], tmp_path / "bert")
    change(folder)
    refused(CheckpointError, message, config, text=str(folder))


# --- our own ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["directory", "file"])
def test_a_model_of_ours_gives_only_the_tower_that_is_asked_for(config, own_folder, tokenizer_file, fresh, kind):
    folder, model = own_folder
    source = str(folder if kind == "directory" else folder / "model.safetensors")
    image = initialise(config, vision=source, tokenizer=tokenizer_file, seed=SEED).model
    assert same(image, model, "vision.")
    assert same(image, fresh, "text.")
    assert same(image, fresh, "logit_scale")
    text = initialise(config, text=source, seed=SEED)
    assert same(text.model, model, "text.")
    assert same(text.model, fresh, "vision.")
    assert text.tokenizer.path == folder / "tokenizer.json"


def test_a_projection_that_the_source_does_not_have_starts_at_random(config, own_folder, tokenizer_file):
    wider = dataclasses.replace(config, text=dataclasses.replace(config.text, projection=24))
    loaded = initialise(wider, text=str(own_folder[0]), seed=SEED).model
    assert same(loaded, initialise(wider, tokenizer=tokenizer_file, seed=SEED).model, "text.projection")
    assert same(loaded, own_folder[1], "text.dense")
    narrower = dataclasses.replace(
        config, vision=dataclasses.replace(VISION, projection=None, trunk_args={**VIT, "embed_dim": 24})
    )
    refused(
        CheckpointError,
        "has an unknown vision.projection.weight",
        narrower,
        vision=str(own_folder[0]),
        tokenizer=tokenizer_file,
    )


def test_a_registered_model_is_a_source_by_its_name(tokenizer_file, bundled):
    config = dataclasses.replace(bundled.model.config, name="more")
    loaded = initialise(config, vision="clippy-lite", tokenizer="clippy-lite").model
    assert same(loaded, bundled.model, "vision.")


def test_a_damaged_model_of_ours_is_refused(config, own_folder, tokenizer_file, tmp_path):
    folder = shutil.copytree(own_folder[0], tmp_path / "own")
    (folder / "trainer.pt").write_bytes(b"124")
    refused(CheckpointError, "trainer.pt: SHA-256 differs", config, vision=str(folder), tokenizer=tokenizer_file)


def test_a_checkpoint_of_one_tower_has_no_other(config, own_folder, tokenizer_file, tmp_path):
    tensors = load_file(own_folder[0] / "model.safetensors")
    save_file({k: t.clone() for k, t in tensors.items() if k.startswith("vision.")}, tmp_path / "one.safetensors")
    source = str(tmp_path / "one.safetensors")
    assert same(initialise(config, vision=source, tokenizer=tokenizer_file).model, own_folder[1], "vision.")
    refused(CheckpointError, "one.safetensors: has no text tower", config, text=source, tokenizer=tokenizer_file)


# --- the hub, names and tokenizers ------------------------------------------------------------------------------


def test_repositories_on_the_hub_and_then_their_cache(config, hub, timm_folder, sentence_folder, monkeypatch):
    from huggingface_hub import constants

    for repo, (folder, _) in {"org/vit": timm_folder, "org/sentences": sentence_folder}.items():
        hub.repositories[repo] = {
            str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()
        }
    sources = {"vision": "hf:org/vit", "text": "hf:org/sentences@main"}
    first = initialise(config, **sources)
    expected = torch.from_numpy(sentence_folder[1].encode(WORDS))
    assert (embed_texts(first) - expected).abs().max() <= 1e-5
    assert torch.equal(first.model.vision.trunk.pos_embed, timm_folder[1].pos_embed)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    again = initialise(config, **sources)
    assert same(again.model, first.model, "")


def test_a_cached_encoder_whose_modules_are_unknown_is_not_taken_for_one_without_a_dense_layer(
    config, hub_cache, encoder_folder
):
    hub_cache("org/bert", {path.name: path.read_bytes() for path in encoder_folder[0].iterdir()})
    refused(DataError, "modules.json is not in the cache", config, text="hf:org/bert")
    without = dataclasses.replace(config, text=dataclasses.replace(config.text, dense=None, projection=24))
    assert initialise(without, text="hf:org/bert").tokenizer.path.name == "tokenizer.json"


@pytest.mark.parametrize(
    ("sources", "kind", "message"),
    [
        (
            {"vision": "timm:vit_base_patch16_224.dino"},
            DataError,
            "model.safetensors is not in the cache .* `hf download",
        ),
        ({"vision": "timm:vit_base_patch16_224.dinno"}, UsageError, "no pretrained weights .*did you mean vit_base"),
        ({"vision": "timm:vit_base"}, UsageError, "no pretrained weights of that name"),
        ({"vision": "hf:org/none"}, DataError, "hf:org/none: .* is not in the cache"),
        ({"text": "hf:org/none"}, DataError, "hf:org/none: .* is not in the cache"),
        ({"vision": "hf:a b"}, UsageError, "'a b' is not the name of a repository"),
        ({"vision": "nowhere"}, DataError, "'nowhere': no such file or directory; accepted: a path, hf:ORG/NAME"),
        ({"vision": ""}, DataError, "'': no such file or directory"),
        ({"vision": "clippy-B-16"}, DataError, "'clippy-B-16' has no weights on this machine"),
        ({"text": "timm:vit"}, UsageError, "timm has image towers only"),
        ({"tokenizer": None}, UsageError, "no tokenizer comes with text tower 'random'"),
        ({"tokenizer": "nowhere"}, DataError, "'nowhere': no such file or directory"),
        ({"tokenizer": "org/none"}, DataError, "hf:org/none: tokenizer.json is not in the cache"),
    ],
)
def test_sources_that_cannot_be_had(config, hub_cache, tokenizer_file, tmp_path, monkeypatch, sources, kind, message):
    monkeypatch.chdir(tmp_path)
    refused(kind, message, config, **{"tokenizer": tokenizer_file, **sources})


def test_a_tokenizer_with_more_tokens_than_the_encoder_knows_is_refused(config, tmp_path):
    large = Tokenizer(models.WordLevel({str(number): number for number in range(50)}, unk_token="0"))
    large.save(str(tmp_path / "tokenizer.json"))
    refused(CheckpointError, "has 50 tokens, but the text tower of 'small' knows 26", config, tokenizer=str(tmp_path))


def test_a_vocabulary_alone_is_converted_and_kept(config, encoder_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("CLIPPY_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "old"
    folder.mkdir()
    vocabulary = Tokenizer.from_file(str(encoder_folder[0] / "tokenizer.json")).get_vocab()
    (folder / "vocab.txt").write_text("".join(f"{word}\n" for word in sorted(vocabulary, key=vocabulary.__getitem__)))
    (folder / "config.json").write_text('{"model_type": "bert"}')
    converted = initialise(config, tokenizer=str(folder)).tokenizer
    assert converted.path.parent == tmp_path / "cache" / "tokenizers"
    expected = initialise(config, text=str(encoder_folder[0])).tokenizer
    assert (converted(WORDS)[0] == expected(WORDS)[0]).all()


def test_a_sentencepiece_model_alone_needs_packages_that_are_named(config, tmp_path, monkeypatch):
    monkeypatch.setattr("clippy_core.model.layouts._installed", lambda package: False)
    (tmp_path / "spiece.model").write_bytes(b"\x0a\x0e")
    refused(CheckpointError, r"spiece\.model: .*`pip install sentencepiece protobuf`", config, tokenizer=str(tmp_path))


def test_a_vocabulary_that_cannot_be_converted_is_named(config, tmp_path, monkeypatch):
    monkeypatch.setattr("clippy_core.model.layouts._installed", lambda package: True)
    (tmp_path / "spiece.model").write_bytes(b"\x0a\x0e")
    (tmp_path / "config.json").write_text('{"model_type": "t5"}')
    refused(CheckpointError, r"spiece\.model: a tokenizer of an older kind", config, tokenizer=str(tmp_path))


# --- configurations from sources --------------------------------------------------------------------------------


def test_a_text_configuration_is_read_from_a_folder(sentence_folder, encoders):
    text = derive_text(str(sentence_folder[0]))
    assert text.encoder["model_type"] == "bert"
    assert text.encoder["hidden_size"] == encoders["bert"]["hidden_size"]
    assert (text.pool, text.dense, text.dense_bias, text.dense_activation) == ("mean", 24, False, "identity")
    config = ModelConfig("read", VISION, text)
    loaded = initialise(config, text=str(sentence_folder[0]))
    assert (embed_texts(loaded) - torch.from_numpy(sentence_folder[1].encode(WORDS))).abs().max() <= 1e-5


def test_an_image_configuration_is_read_from_a_name_of_timm():
    vision = derive_vision("timm:vit_base_patch14_reg4_dinov2.lvd142m")
    assert (vision.backbone, vision.size) == ("vit_base_patch14_reg4_dinov2", 518)
    assert vision.mean == pytest.approx((0.485, 0.456, 0.406))
    assert derive_vision("timm:vit_base_patch16_224.dino").std == pytest.approx((0.229, 0.224, 0.225))
